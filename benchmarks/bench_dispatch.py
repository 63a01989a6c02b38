"""What the dispatcher costs and how soon it tells: draining, commit to receipt, a hostile quarter, the threshold scan.

The endpoints are a server of its own process on loopback that costs next to nothing; PostgreSQL is an embedded one,
with a fresh database for each question. The stock dispatcher is what people write: due rows in hand, an
`httpx.AsyncClient`, one request at a time a slot, an update a delivery.
"""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import UUID

import httpx
import orjson
import structlog

from assets.evaluations.landing import land
from assets.evaluations.verdicts import Line
from benchmarks.dispatch_faults import torment
from benchmarks.fresh_databases import TENANT, fresh_database, fresh_server
from benchmarks.rows import Row
from benchmarks.warehouse_history import is_full
from sensors.alerts.scan import scan
from sensors.outbox import EventDraft, publish
from sensors.webhooks.delivery import Options, drain
from sensors.webhooks.keys import open_endpoint
from sensors.webhooks.registry import create_webhook
from sensors.webhooks.sensors import INTERVAL_SECONDS
from sensors.webhooks.signing import sign
from storage.clock import Clock
from storage.database import Connection, Database, connect
from storage.postgres_url import PostgresUrl
from storage.secrets import SecretBox
from storage.settings import PROJECT_ROOT
from storage.tenants import create_tenant

_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
_LOOPBACK = (ip_network("127.0.0.0/8"),)
_ENDPOINTS = 20
_SLOTS = 64
_RATE = 50
_HOSTILE = ("drip", "error")
_BACKLOG = 100_000

_DUE = """
select delivery_id, webhook_id, events.event_type, events.body
from alerting.webhook_deliveries
inner join alerting.events using (event_id)
where state = 'pending'
order by next_attempt_at
"""
_DONE = "update alerting.webhook_deliveries set state = 'delivered', delivered_at = now() where delivery_id = %s"


def run() -> list[Row]:
    """Every question; with `--full` also a dispatcher killed a hundred times, and a minute of each load."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with TemporaryDirectory(prefix="tidemark-bench-") as name, fresh_server(Path(name) / "postgres") as server:
        rows = [*_draining(server), *_telling(server), _crowded(server), *_scanning(server)]
        return [*rows, _killed(server)] if is_full() else rows


# Draining -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cost:
    seconds: float
    cpu: float
    deliveries: int

    @property
    def rate(self) -> float:
        return self.deliveries / self.seconds

    def __str__(self) -> str:
        return f"{self.rate:,.0f}/s, {1000 * self.cpu / self.deliveries:.2f} ms CPU each"


def _draining(server: PostgresUrl) -> list[Row]:
    ours = [_drained(server, 5_000, _ours) for _ in range(3)]
    shared = [_drained(server, 1_000, partial(_stock, True)) for _ in range(3)]
    each = _drained(server, 5_000 if is_full() else 200, partial(_stock, False))
    best = sorted(ours, key=lambda cost: cost.rate)[1]
    stock = sorted(shared, key=lambda cost: cost.rate)[1]
    cpu = median(cost.cpu / cost.deliveries for cost in ours)
    return [
        Row(
            "rate of draining 5,000 / stock httpx, a client a delivery",
            best.rate / each.rate,
            ">= 4",
            f"{best}; {each}",
        ),
        Row("rate of draining 5,000 / stock httpx, one client", best.rate / stock.rate, ">= 4", f"{best}; {stock}"),
        Row("CPU of a delivery / 1.2 ms", 1000 * cpu / 1.2, "<= 1", f"{1000 * cpu:.2f} ms of Python"),
    ]


def _drained(server: PostgresUrl, deliveries: int, work: Callable[[PostgresUrl], None]) -> _Cost:
    url = fresh_database(server)
    with _receiver() as receiver, connect(url, autocommit=True) as connection:
        _register(connection, [f"{receiver.url}/ok/{number}" for number in range(_ENDPOINTS)])
        _happen(connection, deliveries // _ENDPOINTS)
        connection.execute("vacuum analyze alerting.webhook_deliveries")
        connection.execute("checkpoint")
        started, cpu = time.perf_counter(), time.process_time()
        work(url)
        cost = _Cost(time.perf_counter() - started, time.process_time() - cpu, deliveries)
        row = connection.execute(
            "select count(*) from alerting.webhook_deliveries where state = 'delivered'"
        ).fetchone()
        assert row == (deliveries,)
        assert len(receiver.came()) == deliveries
    return cost


def _ours(url: PostgresUrl) -> None:
    drain(
        partial(connect, url, autocommit=True), SecretBox([_KEY]), Clock(), Options(_LOOPBACK, concurrency=_SLOTS * 2)
    )


def _stock(shares: bool, url: PostgresUrl) -> None:
    asyncio.run(_stock_dispatcher(url, shares))


async def _stock_dispatcher(url: PostgresUrl, shares: bool) -> None:
    box = SecretBox([_KEY])
    with connect(url, autocommit=True) as connection:
        rows: list[tuple[UUID, UUID, str, bytes]] = connection.execute(_DUE).fetchall()
        endpoints = {row[1]: open_endpoint(connection, box, row[1], datetime.now(UTC)) for row in rows}
        slots = asyncio.Semaphore(_SLOTS)

        async def deliver(client: httpx.AsyncClient, row: tuple[UUID, UUID, str, bytes]) -> None:
            delivery_id, webhook_id, event_type, body = row
            now, endpoint = datetime.now(UTC), endpoints[webhook_id]
            headers = sign(body, endpoint.secrets, delivery_id=delivery_id, event_type=event_type, at=now)
            answer = await client.post(endpoint.url, content=body, headers=headers)
            answer.raise_for_status()
            connection.execute(_DONE, (delivery_id,))

        async def one(row: tuple[UUID, UUID, str, bytes], client: httpx.AsyncClient | None) -> None:
            async with slots:
                if client is not None:
                    await deliver(client, row)
                    return
                async with httpx.AsyncClient() as own:
                    await deliver(own, row)

        if shares:
            async with httpx.AsyncClient() as client:
                await asyncio.gather(*(one(row, client) for row in rows))
        else:
            await asyncio.gather(*(one(row, None) for row in rows))


# Commit to receipt ----------------------------------------------------------------------------------------------------


def _telling(server: PostgresUrl) -> list[Row]:
    seconds = 60 if is_full() else 12
    clean = _told(server, seconds, hostile=False)
    beset = _told(server, seconds, hostile=True)
    figures = f"{_RATE} breaches/s to 8 endpoints for {seconds} s: p50 {{:.0f}} ms, p99 {{:.0f}} ms".format
    p50, p99 = (1000 * _quantile(beset, q) for q in (0.5, 0.99))
    clean50, clean99 = (1000 * _quantile(clean, q) for q in (0.5, 0.99))
    return [
        Row("commit to receipt p99, a quarter hostile / 0.5 s", p99 / 500, "<= 1", figures(p50, p99)),
        Row("the same p99 / that of a clean run", p99 / clean99, "<= 2", f"clean: {figures(clean50, clean99)}"),
        Row("the sensor's interval / 6 s", INTERVAL_SECONDS / 6, "<= 1", f"a sweep every {INTERVAL_SECONDS} s"),
    ]


def _told(server: PostgresUrl, seconds: int, *, hostile: bool) -> list[float]:
    url = fresh_database(server)
    with _receiver() as receiver, connect(url, autocommit=True) as connection:
        ways = [_HOSTILE[number // 4] if hostile and number % 4 == 0 else "ok" for number in range(8)]
        paths = [f"/hostile/{number}/{way}" if way != "ok" else f"/ok/{number}" for number, way in enumerate(ways)]
        _register(connection, [receiver.url + path for path in paths])
        with _dispatcher(url):
            _wait_for_heartbeat(connection)
            committed = _push_steadily(connection, seconds)
            time.sleep(1)
        came = receiver.came()
        rows = connection.execute(
            "select delivery_id::text, body from alerting.webhook_deliveries join alerting.events using (event_id)"
        )
        templates = {identifier: json.loads(body)["subject"]["template"] for identifier, body in rows}
    # Every template's first evaluation breaches, so each has its own event; the hostile quarter is not asked.
    waits = [
        at - committed[templates[name]] for path, name, at in came if path.startswith("/ok/") and name in templates
    ]
    expected = len(committed) * ways.count("ok")
    # What hasn't come a second after the last commit counts as that late, and not as absent.
    return waits + [float(seconds)] * max(0, expected - len(waits))


def _push_steadily(connection: Connection, seconds: int) -> dict[str, float]:
    committed = {}
    started = time.monotonic()
    for number in range(_RATE * seconds):
        time.sleep(max(0.0, started + number / _RATE - time.monotonic()))
        template = f"template-{number}"
        record = {
            "template": template,
            "extractor_vendor": "v",
            "extractor_model": "m",
            "drift_score": 0.9,
            "created_at": datetime.now(UTC).isoformat(),
        }
        land(connection, TENANT, "evaluations", [Line(1, orjson.dumps(record))], door="bench", now=datetime.now(UTC))
        committed[template] = time.monotonic()
    return committed


@contextmanager
def _dispatcher(url: PostgresUrl) -> Iterator[None]:
    with TemporaryDirectory(prefix="tidemark-bench-") as home:
        environment = os.environ | Database(url, url).environment
        environment |= {
            "TIDEMARK_HOME": home,
            "TIDEMARK_SECRET_KEYS": _KEY,
            "TIDEMARK_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "sensors.dispatcher"], cwd=PROJECT_ROOT, env=environment, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()


def _wait_for_heartbeat(connection: Connection) -> None:
    deadline = time.monotonic() + 60
    while connection.execute("select from alerting.heartbeats where worker = 'dispatcher'").fetchone() is None:
        assert time.monotonic() < deadline, "the dispatcher does not start"
        time.sleep(0.05)


# Another's backlog ----------------------------------------------------------------------------------------------------


def _crowded(server: PostgresUrl) -> Row:
    """How long B's one delivery takes, alone and beside A's backlog, whose endpoint does not answer."""
    alone = [_lone_delivery(server, backlog=0) for _ in range(2)]
    backlog = _BACKLOG if is_full() else _BACKLOG // 5
    beside = [_lone_delivery(server, backlog=backlog)]
    ratio = median(beside[0]) / median(alone[0] + alone[1])
    figures = (
        f"{backlog:,} due rows: {1000 * median(beside[0]):.0f} ms; alone {1000 * median(alone[0] + alone[1]):.0f} ms"
    )
    return Row("B's latency beside A's backlog / alone", ratio, "1", figures)


def _lone_delivery(server: PostgresUrl, *, backlog: int) -> list[float]:
    url = fresh_database(server)
    with _receiver() as receiver, connect(url, autocommit=True) as connection:
        create_tenant(connection, "crowded")
        _register(connection, [f"{receiver.url}/hostile/0/hang"], "crowded")
        _register(connection, [f"{receiver.url}/ok/1"])
        if backlog:
            _happen(connection, backlog, "crowded")
        committed = []
        with _dispatcher(url):
            _wait_for_heartbeat(connection)
            for number in range(20):
                time.sleep(0.25)
                _happen(connection, 1, prefix=f"lone-{number}-")
                committed.append(time.monotonic())
            time.sleep(1)
        arrived = [at for path, _, at in receiver.came() if path == "/ok/1"]
    assert len(arrived) == len(committed)
    return [at - since for at, since in zip(arrived, committed, strict=True)]


# Thresholds -----------------------------------------------------------------------------------------------------------


def _scanning(server: PostgresUrl) -> list[Row]:
    new = 100_000 if is_full() else 20_000
    _scanned(server, history=1_000, new=1_000)
    short = median(_scanned(server, history=new, new=new) for _ in range(3))
    half = median(_scanned(server, history=new, new=new // 2) for _ in range(3))
    long = _scanned(server, history=10 * new, new=new)
    return [
        Row(
            "time to scan, history ten times as long / short",
            long / short,
            "1",
            f"{new:,} rows: {short:.2f} s, {long:.2f} s",
        ),
        Row("time to scan new rows / half as many", short / half, "<= 2", f"{new:,}: {short:.2f} s, half {half:.2f} s"),
    ]


def _scanned(server: PostgresUrl, *, history: int, new: int) -> float:
    url = fresh_database(server)
    with connect(url, autocommit=True) as connection:
        _land(connection, history, "old")
        while scan(connection, datetime.now(UTC)).more:
            pass
        _land(connection, new, "new")
        connection.execute("analyze")
        started = time.perf_counter()
        while scan(connection, datetime.now(UTC)).more:
            pass
        return time.perf_counter() - started


def _land(connection: Connection, count: int, name: str) -> None:
    now = datetime.now(UTC)
    for start in range(0, count, 1000):
        lines = [
            Line(
                number,
                orjson.dumps(
                    {
                        "record_id": f"{name}-{start + number}",
                        "template": f"template-{number % 200}",
                        "extractor_vendor": "v",
                        "extractor_model": "m",
                        "drift_score": 0.9 if number % 100 == 0 else 0.1,
                        "created_at": now - timedelta(minutes=1),
                    }
                ),
            )
            for number in range(1, min(1000, count - start) + 1)
        ]
        land(connection, TENANT, "evaluations", lines, door="bench", now=now)


# Killed ---------------------------------------------------------------------------------------------------------------


def _killed(server: PostgresUrl) -> Row:
    url = fresh_database(server)
    with connect(url, autocommit=True) as connection:
        account = torment(connection, url, TENANT, deliveries=1_000, kills=100, dispatchers=3)
    figures = (
        f"{account.kills} kill -9 of 3 dispatchers, {account.deliveries:,} deliveries, {account.requests:,} requests, "
        f"{account.repeated} repeated; lost {account.lost}, falsely delivered {account.falsely_delivered}, "
        f"without an attempt row {account.without_attempt}, changed {account.changed}"
    )
    return Row("broken guarantees / deliveries", account.faults / account.deliveries, "0", figures)


# What all of them use -------------------------------------------------------------------------------------------------


class _Receiver:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert process.stdout is not None
        self.url = f"http://127.0.0.1:{int(process.stdout.readline())}"

    def came(self) -> list[tuple[str, str, float]]:
        """End it; what came: path, delivery, when (of the machine's monotonic clock)."""
        output, _ = self._process.communicate("")
        return [(path, name, float(at)) for path, name, at in (line.split(" ") for line in output.splitlines())]


@contextmanager
def _receiver() -> Iterator[_Receiver]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.hook_receiver"],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Receiver(process)
    finally:
        process.kill()
        process.wait()


def _register(connection: Connection, urls: Sequence[str], tenant: str = TENANT) -> None:
    for url in urls:
        create_webhook(
            connection,
            SecretBox([_KEY]),
            tenant,
            url,
            now=datetime.now(UTC),
            event_types=["drift_high"],
            allowed=_LOOPBACK,
        )


def _happen(connection: Connection, count: int, tenant: str = TENANT, prefix: str = "") -> None:
    now = datetime.now(UTC)
    with connection.transaction():
        drafts = [EventDraft(tenant, "drift_high", (f"{prefix}{number}",), now) for number in range(count)]
        publish(connection, drafts, now)


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
