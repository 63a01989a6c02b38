"""Dispatchers that die, sleep or lose PostgreSQL. Guarantee: nothing is lost, nothing is falsely delivered."""

import hmac
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import dagster as dg
import psutil
import pytest
from delivering import SetClock, attempts, happen, register, send, states
from receiver import Received, Receiver, answer, receiving

from benchmarks.dispatch_faults import HURRY, KEY, start_dispatcher, torment
from sensors.webhooks.registry import rotate_webhook
from sensors.webhooks.sensors import definitions
from storage.clock import Clock
from storage.database import Connection, Database, connect
from storage.migrate import migrate
from storage.postgres_url import PostgresUrl
from storage.secrets import SecretBox
from storage.settings import Settings
from storage.tenants import create_tenant

HOLD = """
import sys, time
from pathlib import Path
from storage.embedded import start_embedded
print(start_embedded(Path(sys.argv[1])).libpq(), flush=True)
time.sleep(600)
"""

HOSTILE = """
import os, re, sys
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from sensors.webhooks.delivery import Options, drain
from storage.clock import Clock
from storage.database import connect
from storage.postgres_url import PostgresUrl
from storage.secrets import SecretBox
url = PostgresUrl.parse(os.environ["TEST_URL"])
options = Options(allowed=(ip_network("127.0.0.0/8"),), deadline=1.0)
def drained():
    return drain(lambda: connect(url, autocommit=True), SecretBox([os.environ["TEST_KEY"]]), Clock(), options)
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
drained()
before = peak()
print("warm", flush=True)
sys.stdin.readline()
print("came to", drained().attempted, peak() - before, flush=True)
"""


REPLAY = """
import os, sys
from storage.clock import Clock
from storage.database import connect
from storage.postgres_url import PostgresUrl
from sensors.webhooks import replays
from sensors.webhooks.deliveries import Selection
replays.MOST_REPLAYED = 10
with connect(PostgresUrl.parse(os.environ["TEST_URL"]), autocommit=True) as connection:
    left = 1
    while left:
        done = replays.replay_deliveries(
            connection, sys.argv[1], Selection(state="delivered"), now=Clock().now(), key="incident-7"
        )
        left = done.left
        print(done.queued, flush=True)
"""


@pytest.fixture
def box() -> SecretBox:
    return SecretBox([KEY])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(keeps=True) as receiver:
        yield receiver


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def hold(data: Path) -> tuple["subprocess.Popen[str]", PostgresUrl]:
    """A process that owns a server over a folder, and the server's address."""
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(data)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert owner.stdout is not None
    return owner, PostgresUrl.parse(owner.stdout.readline().strip())


def test_dispatchers_killed_over_and_over_lose_nothing_and_repeat_only_the_same_bytes(
    connection: Connection, database: Database, tenant: str
) -> None:
    account = torment(connection, database.platform, tenant, deliveries=60, kills=5, dispatchers=2)
    assert (account.deliveries, account.kills, account.faults) == (60, 5, 0)
    assert account.repeated > 0


def test_a_dispatcher_stopped_past_its_lease_that_wakes_up_overwrites_nothing(
    connection: Connection, database: Database, tenant: str, box: SecretBox, receiver: Receiver
) -> None:
    arrived, release = threading.Event(), threading.Event()

    def hold(handler: BaseHTTPRequestHandler, received: Received) -> None:
        arrived.set()
        release.wait(60)
        answer(410)(handler, received)

    receiver.behaviour = hold
    clock = SetClock()
    register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, Clock(), "one")
    asleep = start_dispatcher(database.platform, lease=1, deadline=60)
    try:
        assert arrived.wait(60)
        asleep.send_signal(signal.SIGSTOP)
        release.set()
        receiver.behaviour = answer(200)
        clock.time = datetime.now(UTC)
        clock.move(seconds=2)
        assert send(database, box, clock).delivered == 1
        asleep.send_signal(signal.SIGCONT)
        until(lambda: [row[1] for row in attempts(connection)] == [410, 200], "the late result, as evidence")
    finally:
        asleep.kill()
        asleep.wait()
    assert states(connection) == ["delivered"]
    assert connection.execute("select status, breaker, failures from alerting.webhooks").fetchall() == [
        ("active", "closed", 0)
    ]
    assert len({(request.delivery_id, request.body) for request in receiver.requests}) == 1


# At once, without a checkpoint; and without a word to its back ends, which live on for a moment.
@pytest.mark.parametrize(("death", "deliveries"), [(signal.SIGQUIT, 200), (signal.SIGKILL, 500)])
def test_postgresql_killed_during_a_drain_costs_repeats_and_nothing_else(
    box: SecretBox, server_folder: Path, death: signal.Signals, deliveries: int
) -> None:
    with receiving(keeps=True) as receiver:
        data = server_folder / "postgres"
        owner, url = hold(data)
        with connect(url.with_database("postgres"), autocommit=True) as admin:
            admin.execute("create database tidemark")
        migrate(url)
        answered: list[str] = []

        def slow(handler: BaseHTTPRequestHandler, received: Received) -> None:
            time.sleep(0.02)
            answer(200)(handler, received)
            answered.append(received.delivery_id)

        receiver.behaviour = slow
        with connect(url, autocommit=True) as connection:
            create_tenant(connection, "acme")
            register(connection, box, "acme", receiver.url, Clock())
            happen(connection, "acme", Clock(), *map(str, range(deliveries)))
        dispatcher = start_dispatcher(url, lease=2, deadline=1)
        try:
            until(lambda: len(receiver.requests) > 0.3 * deliveries, "a drain half way")
            # First its owner, which would end it in order.
            owner.kill()
            owner.wait()
            server = psutil.Process(int((data / "postmaster.pid").read_text().splitlines()[0]))
            server.send_signal(death)
            server.wait(30)
            owner, url = hold(data)
            with connect(url, autocommit=True) as connection:
                until(lambda: connection.execute(HURRY) and set(states(connection)) == {"delivered"}, "the rest")
                stored = {
                    (delivery_id, bytes(body))
                    for delivery_id, body in connection.execute(
                        """select delivery_id::text, body
                           from alerting.webhook_deliveries join alerting.events using (event_id)"""
                    )
                }
                assert {delivery_id for delivery_id, _ in stored} == set(answered)
                assert {(request.delivery_id, request.body) for request in receiver.requests} == stored
                rows = connection.execute(
                    "select delivery_id::text, count(*) from alerting.delivery_attempts group by 1"
                ).fetchall()
                requests = Counter(request.delivery_id for request in receiver.requests)
                assert all(requests[delivery_id] <= count for delivery_id, count in rows)
            assert dispatcher.poll() is None
        finally:
            dispatcher.kill()
            dispatcher.wait()
            owner.send_signal(signal.SIGINT)
            owner.wait()


def test_secrets_rotated_under_load_leave_no_request_that_does_not_verify(
    connection: Connection, database: Database, tenant: str, box: SecretBox, receiver: Receiver
) -> None:
    webhook_id, first = register(connection, box, tenant, receiver.url, Clock())
    happen(connection, tenant, Clock(), *map(str, range(120)))
    secrets, numbers = [first], itertools.count(1)

    def rotate(handler: BaseHTTPRequestHandler, received: Received) -> None:
        if next(numbers) in (30, 60, 90):
            with database.connect(autocommit=True) as own:
                secrets.append(rotate_webhook(own, box, tenant, webhook_id, now=datetime.now(UTC)))
        answer(200)(handler, received)

    receiver.behaviour = rotate
    assert send(database, box, Clock()).delivered == 120
    assert len(secrets) == 4
    # Whoever still has the first verifies all of them; whoever has the last verifies those sent after it was made.
    assert all(verifies(request, first) for request in receiver.requests)
    assert verifies(receiver.requests[-1], secrets[-1])
    assert receiver.requests[-1].headers["webhook-signature"].count("v1,") == 4


def test_a_dispatcher_signs_while_secrets_rotate_so_that_each_request_verifies_with_what_the_receiver_was_told(
    connection: Connection, database: Database, tenant: str, box: SecretBox, receiver: Receiver
) -> None:
    webhook_id, first = register(connection, box, tenant, receiver.url, Clock(), ed25519=True)
    told, failures = [first], []

    def verify(handler: BaseHTTPRequestHandler, received: Received) -> None:
        known = list(told)
        if not any(verifies(received, secret) for secret in known):
            failures.append(received.delivery_id)
        answer(200)(handler, received)

    receiver.behaviour = verify
    dispatcher = start_dispatcher(database.platform, lease=60, deadline=15)
    try:
        for number in range(90):
            happen(connection, tenant, Clock(), str(number))
            if number in (20, 40, 60):
                until(lambda: len(receiver.requests) > number - 10, "deliveries under way")  # noqa: B023
                told.append(rotate_webhook(connection, box, tenant, webhook_id, now=datetime.now(UTC)))
        until(lambda: set(states(connection)) == {"delivered"}, "all of them")
    finally:
        dispatcher.kill()
        dispatcher.wait()
    assert (len(receiver.requests), failures) == (90, [])
    last = receiver.requests[-1]
    assert all(verifies(last, secret) for secret in told)
    assert not verifies(last, f"whsec_{b64encode(bytes(32)).decode()}")
    signatures = last.headers["webhook-signature"].split(" ")
    assert [signature.partition(",")[0] for signature in signatures] == ["v1"] * 4 + ["v1a"] * 4


def verifies(request: Received, secret: str) -> bool:
    signed = f"{request.delivery_id}.{request.headers['webhook-timestamp']}.".encode() + request.body
    digest = hmac.new(b64decode(secret.removeprefix("whsec_")), signed, sha256).digest()
    return f"v1,{b64encode(digest).decode()}" in request.headers["webhook-signature"].split(" ")


def test_what_no_notification_told_is_found_by_the_dispatchers_own_look(
    connection: Connection, database: Database, tenant: str, box: SecretBox, receiver: Receiver
) -> None:
    register(connection, box, tenant, receiver.url, Clock())
    dispatcher = start_dispatcher(database.platform, lease=60, deadline=15)
    try:
        happen(connection, tenant, Clock(), "heard")
        until(lambda: states(connection) == ["delivered"], "the first")
        # As if its notification had been dropped: due, and nobody was told.
        connection.execute("update alerting.webhook_deliveries set state = 'pending', next_attempt_at = now()")
        until(lambda: len(receiver.requests) == 2, "the dispatcher's own look")
    finally:
        dispatcher.kill()
        dispatcher.wait()


def test_while_the_dispatcher_hangs_and_its_ear_is_cut_the_sensors_tick_delivers_and_nothing_comes_twice(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    receiver: Receiver,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings.database_url is not None
    monkeypatch.setenv("TIDEMARK_SECRET_KEYS", KEY)
    monkeypatch.setenv("TIDEMARK_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
    register(connection, box, tenant, receiver.url, Clock())
    dispatcher = start_dispatcher(database.platform, lease=60, deadline=15)
    (sensor,) = definitions()

    def tick() -> str | None:
        with dg.DagsterInstance.ephemeral() as instance:
            resources = {"database": database, "clock": Clock()}
            return sensor.evaluate_tick(dg.build_sensor_context(instance=instance, resources=resources)).skip_message

    try:
        happen(connection, tenant, Clock(), "heard")
        until(lambda: states(connection) == ["delivered"], "the first")
        dispatcher.send_signal(signal.SIGSTOP)
        connection.execute(
            """select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid() and query ilike 'listen %'"""
        )
        happen(connection, tenant, Clock(), "unheard")
        assert sensor.minimum_interval_seconds is not None
        assert sensor.minimum_interval_seconds <= 5
        assert (tick(), states(connection)) == ("1 delivered", ["delivered"] * 2)
        dispatcher.send_signal(signal.SIGCONT)
        happen(connection, tenant, Clock(), "heard again")
        until(lambda: states(connection) == ["delivered"] * 3, "the dispatcher, connected again")
        assert tick() == "nothing due"
    finally:
        dispatcher.kill()
        dispatcher.wait()
    happen(connection, tenant, Clock(), "nobody listens")
    assert tick() == "1 delivered"
    assert sorted(request.delivery_id for request in receiver.requests) == sorted(
        str(row[0]) for row in connection.execute("select delivery_id from alerting.webhook_deliveries")
    )


def test_a_replay_of_many_that_is_killed_and_repeated_sends_each_once(
    connection: Connection, database: Database, tenant: str, box: SecretBox, receiver: Receiver
) -> None:
    register(connection, box, tenant, receiver.url, Clock(), max_in_flight=100)
    happen(connection, tenant, Clock(), *map(str, range(150)))
    assert send(database, box, Clock()).delivered == 150
    chances = random.Random(5)  # noqa: S311 - repeatable
    killed = 0
    dispatcher = start_dispatcher(database.platform, lease=60, deadline=15)
    try:
        while True:
            replay = subprocess.Popen(
                [sys.executable, "-c", REPLAY, tenant],
                env=os.environ | {"TEST_URL": database.platform.libpq()},
                stdout=subprocess.PIPE,
                text=True,
            )
            assert replay.stdout is not None
            if killed == 3:
                assert replay.wait(60) == 0
                replay.stdout.close()
                break
            for _ in range(3):
                replay.stdout.readline()
            time.sleep(chances.uniform(0, 0.01))
            replay.kill()
            replay.wait()
            replay.stdout.close()
            killed += 1
        until(lambda: set(states(connection)) == {"delivered"}, "what was queued again")
    finally:
        dispatcher.kill()
        dispatcher.wait()
    came = Counter((request.delivery_id, request.body) for request in receiver.requests)
    assert (len(came), set(came.values())) == (150, {2})
    queued = connection.execute(
        "select sum((detail ->> 'queued')::integer) from access.audit_log where action = 'webhook.replay_range'"
    )
    assert queued.fetchone() == (150,)


def pour_body(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
    while True:
        handler.wfile.write(b"\x1f\x8b" * 131_072)


def pour_lines(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X-Bomb: " + b"x" * 1000 + b"\r\n")


def pour_one_line(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Bomb: ")
    while True:
        handler.wfile.write(b"x" * 65_536)


def pour_hints(handler: BaseHTTPRequestHandler, _: Received) -> None:
    while True:
        handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 100)


def test_what_pours_in_without_an_end_leaves_memory_flat(
    connection: Connection, database: Database, tenant: str, box: SecretBox, receiver: Receiver
) -> None:
    known = {"TEST_URL": database.platform.libpq(), "TEST_KEY": KEY}
    register(connection, box, tenant, receiver.url, Clock())
    happen(connection, tenant, Clock(), *map(str, range(30)))
    child = subprocess.Popen(
        [sys.executable, "-c", HOSTILE],
        env=os.environ | known,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    until(lambda: "warm" in child.stdout.readline(), "the first drain")  # type: ignore[union-attr]
    ways = (pour_body, pour_lines, pour_one_line, pour_hints)
    with receiving(ways[0]) as one, receiving(ways[1]) as two, receiving(ways[2]) as three, receiving(ways[3]) as four:
        for hostile in (one, two, three, four):
            register(connection, box, tenant, hostile.url, Clock())
        happen(connection, tenant, Clock(), *map(str, range(100, 106)))
        child.stdin.write("\n")
        child.stdin.flush()
        attempted, kib = map(int, next(line for line in child.stdout if line.startswith("came to")).split()[2:])
        child.stdin.close()
        assert child.wait(30) == 0
        child.stdout.close()
    assert attempted == 30
    assert kib < 10 * 1024
    assert set(states(connection)) <= {"delivered", "retry"}
