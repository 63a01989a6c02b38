"""What validation, idempotency and receipts cost: a file pushed, against raw COPY of the same rows.

Both go into the same partitioned table with its indexes, in fresh databases of one embedded server; COPY gets its rows
ready-made, in the table's own form, and keeps no keys. Then the same file is pushed again; then records land in batches
of the size that comes by HTTP, and one by one.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import orjson

from assets.evaluations.landing import land
from assets.evaluations.push import push_file
from assets.evaluations.verdicts import Line
from benchmarks.fresh_databases import TENANT, fresh_database, fresh_server
from benchmarks.rows import Row, spread
from benchmarks.warehouse_history import is_full
from storage.clock import Clock
from storage.database import Connection, connect
from storage.garbage import rare_garbage_collection
from storage.postgres_url import PostgresUrl

_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_DAYS = 60
_SHARE_WITH_FEATURES = 0.2

_SMALL_BATCH = 1000
_SINGLES = 500

# Of this program alone: the operating system's own account of a child begins with its parent's memory.
_PUSH_AND_TELL_PEAK = """
import re, sys
from pathlib import Path
from benchmarks.bench_push import _push
from storage.database import connect
from storage.postgres_url import PostgresUrl
with connect(PostgresUrl.parse(sys.argv[1]), autocommit=True) as connection:
    _push(connection, Path(sys.argv[2]))
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
"""

_MAKE_PARTITIONS = """
select raw.ensure_evaluations_month(month::date)
from generate_series(%(first)s::date, %(last)s::date, interval '1 month') as month
"""


def run(repeats: int = 3) -> list[Row]:
    """Medians over `repeats` turns, alternating; with `--full` of 1M records, else of 200,000 (20 % with features)."""
    records = 1_000_000 if is_full() else 200_000
    with TemporaryDirectory(prefix="tidemark-bench-") as name:
        folder = Path(name)
        file = folder / "records.ndjson"
        write_records(file, records)
        with fresh_server(folder / "postgres") as server:
            return [
                *_whole_files(server, file, records, repeats),
                *_small_batches(server, file, repeats),
                _memory(server, folder, file, records),
            ]


def _whole_files(server: PostgresUrl, file: Path, records: int, repeats: int) -> list[Row]:
    first, again, copied = [], [], []
    for _ in range(repeats):
        with _prepared_database(server) as connection:
            first.append(_seconds(connection, partial(_push, connection, file)))
            again.append(_seconds(connection, partial(_push, connection, file)))
            rows = _rows_as_copied(connection)
            assert _count(connection) == records
        with _prepared_database(server) as connection:
            copied.append(_seconds(connection, partial(_copy, connection, rows)))
            assert _count(connection) == records
        del rows
    rate = f"{records / median(first):,.0f} records/s pushed"
    return [
        Row(
            "rate of push / rate of raw COPY of the same rows",
            median(copied) / median(first),
            ">= 0.6",
            f"{records:,} records: push {spread(first)}, COPY {spread(copied)}; {rate}",
        ),
        Row(
            "rate of pushing the same file again / rate of the first push",
            median(first) / median(again),
            ">= 1",
            f"first {spread(first)}, again {spread(again)}",
        ),
    ]


def _small_batches(server: PostgresUrl, file: Path, repeats: int) -> list[Row]:
    with file.open("rb") as source:
        lines = [Line(number, next(source).rstrip()) for number in range(1, 50 * _SMALL_BATCH + _SINGLES + 1)]
    batches = [lines[start : start + _SMALL_BATCH] for start in range(0, 50 * _SMALL_BATCH, _SMALL_BATCH)]
    singles = [[line] for line in lines[-_SINGLES:]]
    cpu, batched, single = [], [], []
    for _ in range(repeats):
        with _prepared_database(server) as connection:
            started = time.process_time()
            batched.append(_seconds(connection, partial(_land_each, connection, batches)))
            cpu.append(time.process_time() - started)
            single.append(_seconds(connection, partial(_land_each, connection, singles)))
    number = len(batches) * _SMALL_BATCH
    rate, single_rate = number / median(batched), _SINGLES / median(single)
    return [
        Row(
            "records per CPU second of Python, landed in batches of 1000 / 60,000",
            number / median(cpu) / 60_000,
            ">= 1",
            f"{number:,} records: {spread(cpu)} of CPU, {number / median(cpu):,.0f} records a CPU second",
        ),
        Row(
            "rate of batches of 1000 / rate of single records",
            rate / single_rate,
            ">= 40",
            f"{rate:,.0f} records/s in batches, {single_rate:,.0f} one by one",
        ),
    ]


def _memory(server: PostgresUrl, folder: Path, file: Path, records: int) -> Row:
    small = folder / "small.ndjson"
    write_records(small, records // 10)
    url = fresh_database(server)
    peaks = [_peak_of_push(url, path) for path in (small, file)]
    return Row(
        "peak memory of pushing a file / that of a file a tenth as large",
        peaks[1] / peaks[0],
        "<= 1.1",
        f"{records // 10:,} records {peaks[0] / 1024:.0f} MiB, {records:,} records {peaks[1] / 1024:.0f} MiB",
    )


def _peak_of_push(url: PostgresUrl, file: Path) -> int:
    """The most memory that a process of its own had resident, in KiB."""
    command = [sys.executable, "-c", _PUSH_AND_TELL_PEAK, url.libpq(), str(file)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def write_records(path: Path, count: int) -> None:
    """Write `count` evaluation records as NDJSON, the same ones each time."""
    rng = random.Random(7)
    with path.open("wb") as file:
        for number in range(count):
            record: dict[str, object] = {
                "record_id": f"bench-{number:09d}",
                "template": f"template-{rng.randrange(200)}",
                "extractor_vendor": "vendor",
                "extractor_model": f"model-{rng.randrange(4)}",
                "drift_score": round(rng.random(), 4),
                "reliability_score": round(rng.random(), 4),
                "decision": rng.choice(("accept", "review", "reject")),
                "created_at": _FIRST + timedelta(seconds=rng.randrange(_DAYS * 86_400)),
            }
            if rng.random() < _SHARE_WITH_FEATURES:
                record["features"] = {"pages": rng.randrange(1, 20), "language": "en", "density": rng.random()}
            file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


@contextmanager
def _prepared_database(server: PostgresUrl) -> Iterator[Connection]:
    with connect(fresh_database(server), autocommit=True) as connection:
        connection.execute(_MAKE_PARTITIONS, {"first": _FIRST, "last": _FIRST + timedelta(days=_DAYS)})
        yield connection


def _seconds(connection: Connection, work: Callable[[], object]) -> float:
    # Otherwise one measurement pays for writing back what the other left in memory.
    connection.execute("checkpoint")
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _push(connection: Connection, file: Path) -> None:
    push_file(connection, TENANT, "evaluations", file, clock=Clock())


def _land_each(connection: Connection, batches: Sequence[Sequence[Line]]) -> None:
    # As in the gateway, for as long as it serves.
    with rare_garbage_collection():
        for lines in batches:
            land(connection, TENANT, "evaluations", lines, door="http", now=datetime.now(UTC))


def _rows_as_copied(connection: Connection) -> list[bytes]:
    with connection.cursor() as cursor, cursor.copy("copy (select * from raw.evaluations) to stdout") as copy:
        return [bytes(block) for block in copy]


def _copy(connection: Connection, rows: list[bytes]) -> None:
    with connection.cursor() as cursor, cursor.copy("copy raw.evaluations from stdin") as copy:
        for block in rows:
            copy.write(block)


def _count(connection: Connection) -> int:
    row = connection.execute("select count(*) from raw.evaluations").fetchone()
    return int(row[0]) if row else 0
