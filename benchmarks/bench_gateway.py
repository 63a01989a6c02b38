"""What becomes of a push whose gateway is killed over and over: is every record there once, and what do the kills cost?

Records and a fifth as many resends, in a mixed order, go in batches to a gateway in a process of its own. It is ended
by kill -9 amid them and started again, many times, and PostgreSQL is restarted once; then the same by a gateway that
lives. Each batch is sent until it is answered.
"""

import random
import time
from collections.abc import Sequence
from concurrent.futures import wait
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory

import orjson

from benchmarks.bench_push import write_records
from benchmarks.fresh_databases import TENANT, fresh_database, fresh_server
from benchmarks.gateway_load import Sender, free_port, gateway_process, with_resends
from benchmarks.rows import Row
from benchmarks.warehouse_history import is_full
from storage.api_keys import create_key
from storage.clock import Clock
from storage.database import connect
from storage.embedded import start_embedded, stop_embedded
from storage.postgres_url import PostgresUrl

_BATCH, _PUSHERS = 1000, 4
_MOST_DELAY_SECONDS = 0.1

_JUDGED = "select sum(accepted)::bigint, sum(accepted + duplicates)::bigint from raw.ingest_batches"


def run() -> list[Row]:
    """Of 50,000 records, with 4 kills; with `--full` of 1M, with 20."""
    records, kills = (1_000_000, 20) if is_full() else (50_000, 4)
    with TemporaryDirectory(prefix="tidemark-bench-") as name:
        home = Path(name)
        write_records(home / "records.ndjson", records)
        lines = (home / "records.ndjson").read_bytes().splitlines()
        numbers = with_resends(records, records + records // 5, random.Random(4))
        with fresh_server(home / "postgres") as server:
            killed = _Push(home, fresh_database(server), lines, numbers)
            seconds = killed.seconds(kills)
            stored, accepted, judged = killed.outcome()
            unharmed = _Push(home, fresh_database(server), lines, numbers).seconds(0)
    acknowledged = {_record_id(lines[number]) for number in killed.sender.acknowledged}
    # To the record: a ratio is printed with two digits.
    assert len(stored) == len(set(stored)) == records
    assert acknowledged == set(stored)
    assert (killed.sender.accepted, accepted, judged) == (records, records, len(numbers))
    return [
        Row(
            "rows / distinct records, the gateway killed amid their push",
            len(stored) / records,
            "1",
            f"{kills} kills, PostgreSQL restarted once; {len(numbers):,} sent, {len(stored):,} rows",
        ),
        Row(
            "acknowledged records that are there / acknowledged",
            len(acknowledged & set(stored)) / len(acknowledged),
            "1",
            f"{len(acknowledged):,} acknowledged, {killed.sender.accepted:,} of them as new",
        ),
        Row(
            "time with the kills / without",
            seconds / unharmed,
            "",
            f"{seconds:.1f} s with {kills} more starts; {unharmed:.1f} s, {len(numbers) / unharmed:,.0f} records/s",
        ),
    ]


class _Push:
    """A push of all `numbers`, places in `lines`, to a gateway over one database.

    Attributes:
        sender: sends them.
    """

    def __init__(self, home: Path, url: PostgresUrl, lines: Sequence[bytes], numbers: Sequence[int]) -> None:
        with connect(url) as connection:
            _, key = create_key(connection, TENANT, ["ingest"], now=Clock().now())
        self._data = home / "postgres"
        self._url = url
        self._port = free_port()
        self._environment = {"TIDEMARK_HOME": str(home), "TIDEMARK_DATABASE_URL": url.libpq()}
        self._records = len(lines)
        self.sender = Sender(f"http://127.0.0.1:{self._port}", key, lines.__getitem__, numbers, _BATCH)

    def seconds(self, kills: int) -> float:
        """Push it all while the gateway is killed so many times, each at another place; how long it took."""
        chance = random.Random(8)
        started = time.perf_counter()
        with self.sender.at_work(_PUSHERS) as pushing:
            for kill in range(1, kills + 1):
                with self._gateway():
                    if kill == kills // 2:
                        self.sender.until(round(self._records * (kill - 0.5) / (kills + 1)))
                        stop_embedded(self._data)
                        start_embedded(self._data)
                    self.sender.until(self._records * kill // (kills + 1))
                    time.sleep(chance.random() * _MOST_DELAY_SECONDS)
            with self._gateway():
                wait(pushing)
        return time.perf_counter() - started

    def outcome(self) -> tuple[list[str], int, int]:
        """The record_ids that are stored, and by the receipts how many records were accepted and judged."""
        with connect(self._url) as connection:
            stored = [row[0] for row in connection.execute("select record_id from raw.evaluations")]
            [(accepted, judged)] = connection.execute(_JUDGED).fetchall()
        return stored, int(accepted), int(judged)

    def _gateway(self) -> AbstractContextManager[Popen[bytes]]:
        return gateway_process(self._port, self._environment)


def _record_id(line: bytes) -> str:
    return str(orjson.loads(line)["record_id"])
