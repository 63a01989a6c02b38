"""What validation, idempotency and receipts cost: a file pushed, against raw COPY of the same rows.

Both go into the same partitioned table with its indexes, in fresh databases of one embedded server; COPY gets its rows
ready-made, in the table's own form, and keeps no keys. Then the same file is pushed again.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import orjson

from assets.evaluations.push import push_file
from benchmarks.rows import Row, spread
from storage.clock import Clock
from storage.database import Connection, connect
from storage.embedded import start_embedded, stop_embedded
from storage.migrate import migrate
from storage.postgres_url import PostgresUrl
from storage.tenants import create_tenant

_TENANT = "bench"
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_DAYS = 60
_SHARE_WITH_FEATURES = 0.2

_MAKE_PARTITIONS = """
select raw.ensure_evaluations_month(month::date)
from generate_series(%(first)s::date, %(last)s::date, interval '1 month') as month
"""


def run(records: int = 100_000, repeats: int = 3) -> list[Row]:
    """Measure `repeats` times, alternating.

    Args:
        records: how many, 20 % of them with features.
        repeats: medians are taken over so many.
    """
    first, again, copied = [], [], []
    with TemporaryDirectory(prefix="tidemark-bench-") as name:
        folder = Path(name)
        file = folder / "records.ndjson"
        write_records(file, records)
        with _server(folder / "postgres") as server:
            for _ in range(repeats):
                with _fresh_database(server) as connection:
                    first.append(_seconds(connection, partial(_push, connection, file)))
                    again.append(_seconds(connection, partial(_push, connection, file)))
                    rows = _rows_as_copied(connection)
                    assert _count(connection) == records
                with _fresh_database(server) as connection:
                    copied.append(_seconds(connection, partial(_copy, connection, rows)))
                    assert _count(connection) == records
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
def _server(data: Path) -> Iterator[PostgresUrl]:
    url = start_embedded(data)
    try:
        with connect(url.with_database("postgres"), autocommit=True) as admin:
            admin.execute("create database bench_template")
        migrate(url.with_database("bench_template"))
        yield url
    finally:
        stop_embedded(data)


@contextmanager
def _fresh_database(server: PostgresUrl) -> Iterator[Connection]:
    with connect(server.with_database("postgres"), autocommit=True) as admin:
        admin.execute("drop database if exists bench with (force)")
        admin.execute("create database bench template bench_template")
    with connect(server.with_database("bench"), autocommit=True) as connection:
        create_tenant(connection, _TENANT)
        connection.execute(_MAKE_PARTITIONS, {"first": _FIRST, "last": _FIRST + timedelta(days=_DAYS)})
        yield connection


def _seconds(connection: Connection, work: Callable[[], object]) -> float:
    # Otherwise one measurement pays for writing back what the other left in memory.
    connection.execute("checkpoint")
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _push(connection: Connection, file: Path) -> None:
    push_file(connection, _TENANT, "evaluations", file, clock=Clock())


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
