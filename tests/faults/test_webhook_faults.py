"""Processes that die and endpoints that misbehave. Guarantee: nothing is lost, repeats keep their id and bytes."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from alert_rows import NOW, evaluation, push
from delivering import SetClock, attempts, happen, register, send, states
from receiver import Received, Receiver, answer, receiving

from sensors.alerts.scan import scan
from sensors.webhooks.claims import claim
from sensors.webhooks.parking import sweep
from sensors.webhooks.settling import Result, settle
from sensors.webhooks.transport import Answer
from sensors.webhooks.urls import masked
from storage.database import Connection, Database
from storage.secrets import SecretBox

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

DRAIN = """
import os
from datetime import datetime
from ipaddress import ip_network
from sensors.webhooks.delivery import Options, drain
from storage.clock import Clock
from storage.database import connect
from storage.postgres_url import PostgresUrl
from storage.secrets import SecretBox
url = PostgresUrl.parse(os.environ["TEST_URL"])
now = datetime.fromisoformat(os.environ["TEST_NOW"])
options = Options(allowed=(ip_network("127.0.0.0/8"),))
drain(lambda: connect(url, autocommit=True), SecretBox([os.environ["TEST_KEY"]]), Clock(now=lambda: now), options)
"""

SCAN = """
import os, time
from datetime import datetime
from sensors.alerts.scan import scan
from storage.database import connect
from storage.postgres_url import PostgresUrl
with connect(PostgresUrl.parse(os.environ["TEST_URL"])) as connection:
    connection.execute("select 1")
    print(scan(connection, datetime.fromisoformat(os.environ["TEST_NOW"])).events, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def box() -> SecretBox:
    return SecretBox([KEY])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def child(code: str, database: Database, now: object) -> "subprocess.Popen[str]":
    known = {"TEST_URL": database.platform.libpq(), "TEST_NOW": str(now), "TEST_KEY": KEY}
    return subprocess.Popen([sys.executable, "-c", code], env=os.environ | known, stdout=subprocess.PIPE, text=True)


def test_a_deliverer_killed_between_request_and_result_is_followed_by_one_repeat_with_the_same_id_and_bytes(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    arrived, release = threading.Event(), threading.Event()

    def hold(handler: BaseHTTPRequestHandler, received: Received) -> None:
        arrived.set()
        release.wait(60)
        answer(200)(handler, received)

    receiver.behaviour = hold
    register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "one")
    doomed = child(DRAIN, database, clock.now())
    assert arrived.wait(60)
    # What the receiver already has is on record before any answer.
    assert attempts(connection) == [(1, None, None, None, False)]
    doomed.kill()
    assert doomed.wait() == -signal.SIGKILL
    receiver.behaviour = answer(200)
    release.set()
    assert send(database, box, clock).attempted == 0  # the lease still stands
    clock.move(seconds=61)
    assert send(database, box, clock).delivered == 1
    clock.move(days=1)
    assert send(database, box, clock).attempted == 0
    assert len(receiver.requests) == 2
    assert len({(request.delivery_id, request.body) for request in receiver.requests}) == 1
    assert [attempt[:2] for attempt in attempts(connection)] == [(1, None), (2, 200)]
    assert states(connection) == ["delivered"]


def test_a_scanner_killed_before_its_commit_leaves_nothing_and_the_next_one_finds_the_breach(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    register(connection, box, tenant, receiver.url, clock)
    push(connection, tenant, [evaluation(1, drift_score=0.9)])
    doomed = child(SCAN, database, NOW)
    assert doomed.stdout is not None
    assert doomed.stdout.readline() == "2\n"
    doomed.kill()
    doomed.wait()
    doomed.stdout.close()
    counts = """select (select count(*) from alerting.alerts), (select count(*) from alerting.events),
                       (select count(*) from alerting.webhook_deliveries)"""
    assert connection.execute(counts).fetchone() == (0, 0, 0)
    assert scan(connection, NOW).events == 2
    assert connection.execute(counts).fetchone() == (2, 2, 2)


def test_an_owner_who_wakes_up_after_its_lease_changes_nothing(
    connection: Connection, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "one")
    (asleep,) = claim(connection, clock.now(), 10)
    assert not claim(connection, clock.now(), 10)
    clock.move(seconds=61)
    assert sweep(connection, clock.now()) == 1
    (awake,) = claim(connection, clock.now(), 10)
    jitter = random.Random(1)  # noqa: S311
    assert settle(connection, [Result(asleep, Answer(410))], clock.now(), jitter) == [None]
    assert states(connection) == ["in_flight"]
    assert settle(connection, [Result(awake, Answer(200))], clock.now(), jitter) == ["delivered"]
    assert settle(connection, [Result(asleep, Answer(500))], clock.now(), jitter) == [None]
    assert states(connection) == ["delivered"]
    assert connection.execute("select status from alerting.webhooks").fetchone() == ("active",)
    assert [attempt[:2] for attempt in attempts(connection)] == [(1, 500), (2, 200)]


def drip_head(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        handler.wfile.write(b"a")
        handler.wfile.flush()
        threading.Event().wait(0.02)


def drip_body(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.wfile.write(b"HTTP/1.1 500 No\r\nContent-Length: 900\r\n\r\n")
    while True:
        handler.wfile.write(b"a")
        handler.wfile.flush()
        threading.Event().wait(0.02)


def endless_body(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        handler.wfile.write(b"x" * 65536)


def endless_head(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X-Bomb: " + b"x" * 1000 + b"\r\n")


def gzip_claim(handler: BaseHTTPRequestHandler, received: Received) -> None:
    answer(200, b"\x1f\x8bnot unpacked", Content_Encoding="gzip")(handler, received)


def no_answer(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def half_answer(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("behaviour", "state", "status", "error", "response"),
    [
        (drip_head, "retry", None, "no complete answer within 1 seconds", b""),
        (drip_body, "retry", 500, "no complete answer within 1 seconds", None),
        (endless_body, "delivered", 200, None, b"x" * 1000),
        (endless_head, "retry", None, "RemoteProtocolError", b""),
        (gzip_claim, "delivered", 200, None, b"\x1f\x8bnot unpacked"),
        (no_answer, "retry", None, "RemoteProtocolError", b""),
        (half_answer, "delivered", 200, "RemoteProtocolError", b"half"),
    ],
)
def test_a_misbehaving_endpoint_costs_a_bounded_time_and_a_thousand_bytes_and_others_get_theirs(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    clock: SetClock,
    receiver: Receiver,
    behaviour: object,
    state: str,
    status: int | None,
    error: str | None,
    response: bytes | None,
) -> None:
    with receiving(behaviour) as hostile:  # type: ignore[arg-type]
        register(connection, box, tenant, hostile.url, clock)
        register(connection, box, tenant, receiver.url, clock)
        happen(connection, tenant, clock, "one")
        send(database, box, clock, deadline=1.0)
    assert len(receiver.requests) == 1
    row = connection.execute(
        """select state, status_code, error, response from alerting.webhooks
           join alerting.webhook_deliveries using (webhook_id) join alerting.delivery_attempts using (delivery_id)
           where url = %s""",
        (masked(hostile.url),),
    ).fetchone()
    assert row is not None
    assert row[:2] == (state, status)
    assert row[2] == error if error is None else error in row[2]
    assert bytes(row[3]) == response if response is not None else 0 < len(row[3]) < 900


def test_to_a_forbidden_address_no_packet_leaves_and_the_log_names_the_remedy(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "one")
    assert send(database, box, clock, allowed=()).retried == 1
    assert receiver.requests == []
    ((_, status, error, _, _),) = attempts(connection)
    assert status is None
    assert "127.0.0.1 is not public (loopback)" in str(error)
    assert "TIDEMARK_WEBHOOK_ALLOWED_NETWORKS" in str(error)


def test_a_name_is_resolved_once_and_the_address_that_was_checked_is_the_one_that_is_reached(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    clock: SetClock,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    resolve = socket.getaddrinfo

    def rebinding(host: object, *args: object, **kwargs: object) -> object:
        if host != "rebinding.test":
            return resolve(host, *args, **kwargs)  # type: ignore[arg-type]
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    webhook_id, _ = register(connection, box, tenant, receiver.url, clock)
    sealed = box.seal(receiver.url.replace("127.0.0.1", "rebinding.test"), webhook_id)
    connection.execute("update alerting.webhooks set sealed_url = %s", (sealed,))
    happen(connection, tenant, clock, "one")
    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert send(database, box, clock).delivered == 1
    assert asked == ["rebinding.test"]
    assert receiver.requests[0].headers["host"] == f"rebinding.test:{receiver.port}"
