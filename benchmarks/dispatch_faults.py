"""Dispatchers killed over and over, before an endpoint that fails at random and loses acknowledgements.

Belongs here: the endpoint, the killing, and the account at the end. `bench_dispatch` runs it at full size, a test of
faults at a small one.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from uuid import UUID

from sensors.outbox import EventDraft, publish
from sensors.webhooks.registry import create_webhook
from sensors.webhooks.replays import replay_delivery
from storage.database import Connection
from storage.postgres_url import PostgresUrl
from storage.secrets import SecretBox
from storage.settings import PROJECT_ROOT

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
LOOPBACK = (ip_network("127.0.0.0/8"),)
_PATIENCE_SECONDS = 600

_DISPATCHER = """
import asyncio, os
from datetime import timedelta
from ipaddress import ip_network
from sensors.dispatcher import Dispatcher
from sensors.webhooks.delivery import Options
from storage.clock import Clock
from storage.database import Database
from storage.postgres_url import PostgresUrl
from storage.secrets import SecretBox
url = PostgresUrl.parse(os.environ["FAULTS_URL"])
options = Options(
    allowed=(ip_network("127.0.0.0/8"),),
    concurrency=32,
    deadline=float(os.environ["FAULTS_DEADLINE"]),
    lease=timedelta(seconds=float(os.environ["FAULTS_LEASE"])),
)
dispatcher = Dispatcher(Database(url, url), SecretBox([os.environ["FAULTS_KEY"]]), Clock(), options, scans=False)
asyncio.run(dispatcher.run(asyncio.Event()))
"""

# Nobody waits a minute for each retry here: what failed is due again at once, and so is a breaker's probe.
HURRY = """
with hurried as (
    update alerting.webhook_deliveries set next_attempt_at = clock_timestamp()
    where state = 'retry' and next_attempt_at > clock_timestamp()
)

update alerting.webhooks set breaker_until = clock_timestamp() where breaker <> 'closed'
"""


@dataclass
class Endpoint:
    """Answers 200, 500 or, after it has read all, not at all; remembers each request before it answers.

    Attributes:
        bodies: by delivery, the different bodies that came.
        requests: by delivery, how many came.
        answered_200: deliveries that were told so.
    """

    chances: random.Random
    url: str = ""
    bodies: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    requests: Counter[str] = field(default_factory=Counter)
    answered_200: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, identifier: str, body: bytes) -> str:
        """Remember a request and decide what becomes of it: `200`, `500` or `lost`."""
        with self.lock:
            self.bodies[identifier].add(body)
            self.requests[identifier] += 1
            (act,) = self.chances.choices(("200", "500", "lost"), (6, 3, 1))
            if act == "200":
                self.answered_200.add(identifier)
            return act


@contextmanager
def unreliable_endpoint(seed: int) -> Iterator[Endpoint]:
    """An endpoint on loopback for the length of the block."""
    endpoint = Endpoint(random.Random(seed))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            act = endpoint.take(self.headers["webhook-id"], body)
            if act == "lost":
                self.close_connection = True
                return
            self.send_response(int(act))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # of five, a burst's other connections wait a second for their second knock

    server = Server(("127.0.0.1", 0), Handler)
    # A dispatcher that is killed closes its connections with whatever was still to be read.
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()


def start_dispatcher(url: PostgresUrl, *, lease: float, deadline: float) -> "subprocess.Popen[bytes]":
    """A dispatcher as a process of its own, that delivers and does not scan."""
    known = {
        "FAULTS_URL": url.libpq(),
        "FAULTS_KEY": KEY,
        "FAULTS_LEASE": str(lease),
        "FAULTS_DEADLINE": str(deadline),
    }
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, "-c", _DISPATCHER], cwd=PROJECT_ROOT, env=os.environ | known, stdout=quiet, stderr=quiet
    )


@dataclass(frozen=True)
class Account:
    """What became of the deliveries.

    Attributes:
        deliveries, kills, requests: how many there were.
        repeated: deliveries that came more than once.
        lost: not delivered in the end.
        falsely_delivered: said to be delivered, though the endpoint never answered 200.
        without_attempt: requests more than the delivery has attempt rows.
        changed: deliveries that came with different bytes, or with others than are stored.
    """

    deliveries: int
    kills: int
    requests: int
    repeated: int
    lost: int
    falsely_delivered: int
    without_attempt: int
    changed: int

    @property
    def faults(self) -> int:
        """How often a guarantee was broken."""
        return self.lost + self.falsely_delivered + self.without_attempt + self.changed


def torment(
    connection: Connection,
    url: PostgresUrl,
    tenant: str,
    *,
    deliveries: int,
    kills: int,
    dispatchers: int,
    seed: int = 7,
) -> Account:
    """Deliver while dispatchers are killed with signal 9 and started again.

    Args:
        connection: autocommit.
        url: the same database, for the dispatchers.
        tenant: has no endpoint yet.
        deliveries: queued bit by bit, so that there is work at every kill.
        kills: how many.
        dispatchers: run at once.
        seed: of every chance.
    """
    chances = random.Random(seed)
    with unreliable_endpoint(seed) as endpoint:
        create_webhook(connection, SecretBox([KEY]), tenant, endpoint.url, now=datetime.now(UTC), allowed=LOOPBACK)
        running = [start_dispatcher(url, lease=2, deadline=1) for _ in range(dispatchers)]
        try:
            killed = queued = 0
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while (killed < kills or queued < deliveries or _is_open(connection)) and time.monotonic() < deadline:
                wanted = min(deliveries, deliveries * (killed + 1) // max(1, kills))
                _queue(connection, tenant, range(queued, wanted))
                queued = max(queued, wanted)
                connection.execute(HURRY)
                _replay_failed(connection, tenant)
                time.sleep(chances.uniform(0.02, 0.25))
                if killed < kills and endpoint.requests.total() > queued // 2:
                    victim = chances.randrange(dispatchers)
                    running[victim].send_signal(signal.SIGKILL)
                    running[victim].wait()
                    running[victim] = start_dispatcher(url, lease=2, deadline=1)
                    killed += 1
        finally:
            for process in running:
                process.kill()
                process.wait()
        return _account(connection, endpoint, killed)


def _queue(connection: Connection, tenant: str, numbers: range) -> None:
    now = datetime.now(UTC)
    with connection.transaction():
        publish(connection, [EventDraft(tenant, "drift_high", (f"chaos-{number}",), now) for number in numbers], now)


def _is_open(connection: Connection) -> bool:
    row = connection.execute("select from alerting.webhook_deliveries where state <> 'delivered' limit 1").fetchone()
    return row is not None


def _replay_failed(connection: Connection, tenant: str) -> None:
    for (delivery_id,) in connection.execute(
        "select delivery_id from alerting.webhook_deliveries where state = 'failed'"
    ).fetchall():
        replay_delivery(connection, tenant, delivery_id, now=datetime.now(UTC))


def _account(connection: Connection, endpoint: Endpoint, killed: int) -> Account:
    rows: list[tuple[UUID, str, bytes, int]] = connection.execute(
        """select delivery_id, state, body, count(attempt_id)
           from alerting.webhook_deliveries
           join alerting.events using (event_id) left join alerting.delivery_attempts using (delivery_id)
           group by delivery_id, state, body"""
    ).fetchall()
    known = {str(delivery_id): (state, bytes(body), attempts) for delivery_id, state, body, attempts in rows}
    delivered = {name for name, (state, _, _) in known.items() if state == "delivered"}
    return Account(
        deliveries=len(known),
        kills=killed,
        requests=endpoint.requests.total(),
        repeated=sum(count > 1 for count in endpoint.requests.values()),
        lost=len(known) - len(delivered),
        falsely_delivered=len(delivered - endpoint.answered_200),
        without_attempt=sum(
            max(0, count - known[name][2]) if name in known else count for name, count in endpoint.requests.items()
        ),
        changed=sum(bodies != {known[name][1]} for name, bodies in endpoint.bodies.items() if name in known),
    )
