"""What becomes of a dropped file whose workers are killed: is every line judged once, and what do the kills cost?

A file with a fifth of its records sent twice lands by workers of which three are ended by kill -9 amid it; then the
same file by one that lives. And a worker's memory, for a file and for one ten times as large.
"""

import random
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bench_push import write_records
from benchmarks.fresh_databases import TENANT, fresh_database, fresh_server
from benchmarks.rows import Row
from benchmarks.warehouse_history import is_full
from storage.database import Connection, connect
from storage.postgres_url import PostgresUrl

_KILLS = 3
_POLL_SECONDS = 0.01

_WORKER = """
import sys
from pathlib import Path
from assets.drop_folder.folder import DropFolder
from assets.drop_folder.landing import land_ready
from assets.drop_folder.looking import look
from storage.clock import Clock
from storage.database import connect
from storage.postgres_url import PostgresUrl
with connect(PostgresUrl.parse(sys.argv[1]), autocommit=True) as connection:
    folder = DropFolder(sys.argv[2])
    land_ready(connection, folder, look(connection, folder, Clock().now(), at_once=True).ready, Clock())
print(Path("/proc/self/status").read_text())
"""


def run() -> list[Row]:
    """Of 200,000 records and their resends; with `--full` of 1M."""
    records = 1_000_000 if is_full() else 200_000
    with TemporaryDirectory(prefix="tidemark-bench-") as name:
        home = Path(name)
        file, small = home / "large" / TENANT / "a.ndjson", home / "small" / TENANT / "a.ndjson"
        lines = _write(file, records)
        _write(small, records // 10)
        with fresh_server(home / "postgres") as server:
            url = fresh_database(server)
            with connect(url, autocommit=True) as connection:
                killed = _seconds_with_kills(url, connection, home / "large", lines)
                judged, rows = _judged_and_landed(connection)
                assert rows == records
            small_peak, _ = _land(fresh_database(server), home / "small")
            peak, unharmed = _land(fresh_database(server), home / "large")
    return [
        Row(
            "lines judged / lines of a file whose workers are killed",
            judged / lines,
            "1",
            f"{_KILLS} kills, {lines:,} lines, {rows:,} rows of {records:,} records",
        ),
        Row(
            "time with the kills / without", killed / unharmed, "", f"{killed:.1f} s, of which starts; {unharmed:.1f} s"
        ),
        Row(
            "peak memory of landing a file / that of a file a tenth as large",
            peak / small_peak,
            "<= 1.1",
            f"{small_peak / 1024:.0f} MiB, {peak / 1024:.0f} MiB",
        ),
    ]


def _write(path: Path, records: int) -> int:
    path.parent.mkdir(parents=True)
    write_records(path, records)
    again = set(random.Random(4).sample(range(records), records // 5))
    with path.open("rb") as file:
        resent = [line for number, line in enumerate(file) if number in again]
    with path.open("ab") as file:
        file.writelines(resent)
    return records + len(resent)


def _seconds_with_kills(url: PostgresUrl, connection: Connection, folder: Path, lines: int) -> float:
    started = time.perf_counter()
    for kill in range(1, _KILLS + 1):
        with _worker(url, folder) as worker:
            while worker.poll() is None and _done(connection) < lines * kill / (_KILLS + 1):
                time.sleep(_POLL_SECONDS)
            worker.kill()
    while _done(connection) < lines:
        _land(url, folder)
    return time.perf_counter() - started


def _land(url: PostgresUrl, folder: Path) -> tuple[int, float]:
    """The most memory that a worker of its own had resident, in KiB, and its seconds."""
    started = time.perf_counter()
    with _worker(url, folder) as worker:
        said, _ = worker.communicate()
    peak = re.search(r"VmHWM:\s+(\d+) kB", said)
    assert peak is not None
    return int(peak.group(1)), time.perf_counter() - started


def _worker(url: PostgresUrl, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _WORKER, url.libpq(), str(folder)], stdout=subprocess.PIPE, text=True
    )


def _done(connection: Connection) -> int:
    row = connection.execute("select coalesce(max(lines_done), 0) from raw.dropped_files").fetchone()
    return int(row[0]) if row else 0


def _judged_and_landed(connection: Connection) -> tuple[int, int]:
    row = connection.execute(
        "select sum(accepted + duplicates + conflicts + rejected)::bigint, (select count(*) from raw.evaluations)"
        " from raw.ingest_batches"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
