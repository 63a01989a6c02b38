"""How endpoints are served: breaker, limits, order, turns, and connections kept for no one but whom they were made."""

import json
import socket
import ssl
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from uuid import UUID

import pytest
from certificates import certificate
from delivering import SetClock, attempts, happen, register, send, states
from receiver import Received, Receiver, answer, receiving

from sensors.outbox import EventDraft, SubjectPart, publish
from sensors.webhooks.changes import change_webhook
from sensors.webhooks.claims import claim
from sensors.webhooks.registry import resume_webhook
from sensors.webhooks.replays import replay_delivery
from storage.database import Connection, Database
from storage.secrets import SecretBox


def breaker(connection: Connection, webhook_id: UUID) -> tuple[object, ...]:
    row = connection.execute(
        "select breaker, failures, trips from alerting.webhooks where webhook_id = %s", (webhook_id,)
    ).fetchone()
    assert row is not None
    return tuple(row)


def alter(connection: Connection, webhook_id: UUID, **columns: object) -> None:
    for name, value in columns.items():
        connection.execute(
            f"update alerting.webhooks set {name} = %s where webhook_id = %s",  # type: ignore[arg-type]  # noqa: S608
            (value, webhook_id),
        )


@pytest.mark.parametrize("status", [301, 401, 404])
def test_an_answer_that_waiting_does_not_mend_parks_the_rest_is_told_once_and_probed_on_schedule(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    clock: SetClock,
    receiver: Receiver,
    status: int,
) -> None:
    with receiving(answer(status)) as wrong:
        webhook_id, _ = register(connection, box, tenant, wrong.url, clock)
        alter(connection, webhook_id, max_in_flight=1)
        happen(connection, tenant, clock, *"abcde")
        register(connection, box, tenant, receiver.url, clock)
        assert send(database, box, clock).retried == 1
        assert breaker(connection, webhook_id) == ("open", 1, 1)
        assert sorted(set(states(connection))) == ["delivered", "parked", "retry"]
        (told,) = receiver.requests
        assert told.headers["x-webhook-event"] == "webhook_disabled"
        assert (
            json.loads(told.body)["metric"] | {"name": "http_status", "value": status}
            == json.loads(told.body)["metric"]
        )
        assert json.loads(told.body)["correlation_id"] == str(webhook_id)
        happen(connection, tenant, clock, "f")
        for number, minutes in enumerate((1, 5, 30, 30), start=2):
            clock.move(seconds=minutes * 60 - 2)
            assert send(database, box, clock).retried == 0
            clock.move(seconds=2)
            assert send(database, box, clock).retried == 1
            assert breaker(connection, webhook_id) == ("open", number, number)
            assert len(wrong.requests) == number
        assert {request.headers["x-webhook-event"] for request in receiver.requests} == {
            "webhook_disabled",
            "drift_high",
        }
        assert len(receiver.requests) == 2
        wrong.behaviour = answer(200)
        clock.move(minutes=31)
        assert send(database, box, clock).delivered == 6
    assert breaker(connection, webhook_id) == ("closed", 0, 0)
    assert set(states(connection)) == {"delivered"}
    assert len(attempts(connection)) == 5 + 6 + 2, "parked rows have spent no attempt"


def test_an_endpoint_that_is_resumed_by_hand_gets_what_was_parked_at_once(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    receiver.behaviour = answer(403)
    webhook_id, _ = register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "one")
    send(database, box, clock)
    happen(connection, tenant, clock, *map(str, range(20)))
    send(database, box, clock)
    assert states(connection).count("parked") == 20
    receiver.behaviour = answer(200)
    resume_webhook(connection, tenant, webhook_id)
    assert send(database, box, clock).delivered == 20
    clock.move(minutes=2)
    assert send(database, box, clock).delivered == 1


def test_ten_failures_in_a_row_open_the_breaker_and_a_success_between_them_does_not(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, _ = register(connection, box, tenant, receiver.url, clock)

    def all_but_the_ninth(handler: BaseHTTPRequestHandler, received: Received) -> None:
        answer(200 if len(receiver.requests) == 9 else 500)(handler, received)

    receiver.behaviour = all_but_the_ninth
    happen(connection, tenant, clock, *map(str, range(30)))
    assert send(database, box, clock, concurrency=1).attempted == 19
    assert breaker(connection, webhook_id) == ("open", 10, 1)
    assert sorted(set(states(connection))) == ["delivered", "parked", "retry"]
    assert states(connection).count("parked") == 11


@pytest.mark.parametrize(("status", "seconds"), [(429, 600), (503, 600), (500, 60), (408, 60), (425, 60)])
def test_a_429_or_503_is_asked_again_when_it_says_and_the_others_on_schedule(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    clock: SetClock,
    receiver: Receiver,
    status: int,
    seconds: int,
) -> None:
    webhook_id, _ = register(connection, box, tenant, receiver.url, clock)
    receiver.behaviour = answer(status, Retry_After="600")
    happen(connection, tenant, clock, "one")
    assert send(database, box, clock).retried == 1
    row = connection.execute("select next_attempt_at from alerting.webhook_deliveries").fetchone()
    assert row is not None
    assert timedelta(seconds=seconds) <= row[0] - clock.now() <= timedelta(seconds=max(seconds, 66))
    assert breaker(connection, webhook_id) == ("closed", 1, 0)


def test_an_endpoint_has_no_more_requests_under_way_than_it_wants_whoever_drains(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, _ = register(connection, box, tenant, receiver.url, clock)
    alter(connection, webhook_id, max_in_flight=3)
    happen(connection, tenant, clock, *map(str, range(40)))
    lock, under_way, most = threading.Lock(), 0, 0

    def count(handler: BaseHTTPRequestHandler, received: Received) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.01)
        with lock:
            under_way -= 1
        answer(200)(handler, received)

    receiver.behaviour = count
    threads = [threading.Thread(target=lambda: send(database, box, clock)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert send(database, box, clock).left == 0
    assert set(states(connection)) == {"delivered"}
    assert most <= 3


def test_a_rate_lets_a_seconds_worth_through_at_once_and_the_rest_as_time_goes_by(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, _ = register(connection, box, tenant, receiver.url, clock)
    alter(connection, webhook_id, rate_per_second=4)
    happen(connection, tenant, clock, *map(str, range(12)))
    for seconds, total in ((0, 4), (0, 4), (0.5, 6), (30, 10), (30, 12)):
        clock.move(seconds=seconds)
        send(database, box, clock, seconds=0.5)
        assert len(receiver.requests) == total


def test_in_order_means_one_at_a_time_of_a_subject_and_a_failing_one_holds_up_its_own_subject_alone(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, _ = register(connection, box, tenant, receiver.url, clock)

    def say(*names: str) -> None:
        drafts = [
            EventDraft(
                tenant, "drift_high", (name,), clock.now(), subject=SubjectPart(template=name[0]), correlation_id=name
            )
            for name in names
        ]
        with connection.transaction():
            publish(connection, drafts, clock.now())

    def told() -> list[str]:
        return [json.loads(request.body)["correlation_id"] for request in receiver.requests]

    receiver.behaviour = lambda handler, got: answer(500 if b'"a1"' in got.body else 200)(handler, got)
    say("a1", "b1", "a2")
    alter(connection, webhook_id, ordered=True)
    say("b2", "c1", "a3", "b3")
    send(database, box, clock)
    assert sorted(told()) == ["a1", "b1", "b2", "b3", "c1"]
    assert [name for name in told() if name[0] == "b"] == ["b1", "b2", "b3"]
    receiver.behaviour = answer(200)
    clock.move(seconds=67)
    say("a4")
    send(database, box, clock)
    assert [name for name in told() if name[0] == "a"] == ["a1", "a1", "a2", "a3", "a4"]


def test_an_endpoint_that_wants_order_from_now_on_gets_what_waited_before_in_order_too(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, _ = register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "over")
    send(database, box, clock)
    happen(connection, tenant, clock, "one", "two")
    change_webhook(connection, box, tenant, webhook_id, {"ordered": True}, now=clock.now())
    happen(connection, tenant, clock, "three")
    over = UUID(receiver.requests[0].delivery_id)
    assert replay_delivery(connection, tenant, over, now=clock.now())
    assert send(database, box, clock).delivered == 4
    told = [json.loads(request.body)["seq"] for request in receiver.requests[1:]]
    assert told == sorted(told)


def test_in_order_what_an_open_breaker_held_back_is_probed_by_its_first_though_another_was_due_before(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    receiver.behaviour = answer(404)
    webhook_id, _ = register(connection, box, tenant, receiver.url, clock, ordered=True)
    happen(connection, tenant, clock, "first", "second")
    send(database, box, clock)
    alter(connection, webhook_id, breaker_until=clock.now() + timedelta(minutes=10))
    clock.move(minutes=5)
    send(database, box, clock)
    assert states(connection) == ["parked", "parked"]
    receiver.behaviour = answer(200)
    clock.move(minutes=6)
    send(database, box, clock)
    assert states(connection) == ["delivered", "delivered"]
    first, again, then = (request.delivery_id for request in receiver.requests)
    assert first == again < then


def test_a_clock_that_is_set_back_leaves_no_endpoint_waiting_until_it_is_as_late_again(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    register(connection, box, tenant, receiver.url, clock, rate_per_second=1)
    happen(connection, tenant, clock, "before")
    send(database, box, clock, seconds=0.5)
    clock.move(hours=-2)
    happen(connection, tenant, clock, "after")
    assert send(database, box, clock, seconds=0.5).delivered == 1


def test_one_endpoints_backlog_takes_no_turn_from_another_nor_is_it_walked(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    crowded, _ = register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, *map(str, range(3000)))
    quiet, _ = register(connection, box, tenant, receiver.url, clock)
    clock.move(seconds=1)
    happen(connection, tenant, clock, "late")
    connection.execute("analyze alerting.webhook_deliveries")
    claims = claim(connection, clock.now(), 4)
    assert {owned.webhook_id for owned in claims} == {crowded, quiet}
    # What a claim reads: asked of PostgreSQL itself, within one transaction, after the first claim has left its traces.
    with connection.transaction():
        before = _entries_read(connection)
        claim(connection, clock.now(), 4)
        assert _entries_read(connection) - before < 200


def _entries_read(connection: Connection) -> int:
    row = connection.execute(
        """select sum(pg_stat_get_xact_tuples_returned(oid)) from pg_class
           where oid = 'alerting.webhook_deliveries'::regclass
              or oid in (select indexrelid from pg_index where indrelid = 'alerting.webhook_deliveries'::regclass)"""
    ).fetchone()
    return int(row[0]) if row else 0


def test_a_connection_is_kept_for_the_next_delivery(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock
) -> None:
    with receiving(keeps=True) as receiver:
        register(connection, box, tenant, receiver.url, clock)
        happen(connection, tenant, clock, *map(str, range(20)))
        assert send(database, box, clock, concurrency=1).delivered == 20
        assert receiver.connections == 1


def test_a_connection_whose_certificate_was_checked_for_one_host_serves_no_other_at_the_same_address(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    clock: SetClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: resolve("127.0.0.1" if host == "other.test" else host, *a, **k)
    )
    path = certificate(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with receiving(context=context, keeps=True) as receiver:
        for host in ("localhost", "other.test"):
            register(connection, box, tenant, f"https://{host}:{receiver.port}/hook", clock)
        happen(connection, tenant, clock, *map(str, range(5)))
        verify = ssl.create_default_context(cafile=str(path))
        result = send(database, box, clock, verify=verify, concurrency=1)
        assert (result.delivered, result.retried) == (5, 5)
        assert len(receiver.requests) == 5
    assert {row[2] for row in attempts(connection) if row[2]} == {
        "the certificate is not valid: Hostname mismatch, certificate is not valid for 'other.test'."
    }


def test_a_kept_connection_that_has_ended_costs_the_delivery_no_attempt_and_no_minute(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock
) -> None:
    def close_unsaid(handler: BaseHTTPRequestHandler, received: Received) -> None:
        if first := len(receiver.requests) == 1:
            answer(200)(handler, received)
        # The next request is read, and the connection ends without an answer.
        elif handler.path == "/hook" and len(receiver.requests) == 2:
            handler.connection.shutdown(socket.SHUT_RDWR)
        else:
            answer(200)(handler, received)
        handler.close_connection = not first

    with receiving(close_unsaid, keeps=True) as receiver:
        webhook_id, _ = register(connection, box, tenant, receiver.url, clock)
        happen(connection, tenant, clock, "one", "two", "three")
        result = send(database, box, clock, concurrency=1)
        assert (result.delivered, result.retried) == (3, 1)
        assert breaker(connection, webhook_id) == ("closed", 0, 0)
    assert sorted(str(row[1]) for row in attempts(connection)) == ["200", "200", "200", "None"]
    assert len({(request.delivery_id, request.body) for request in receiver.requests}) == 3


def test_what_comes_unasked_after_an_answer_is_not_taken_for_the_next_one(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock
) -> None:
    def two_answers(handler: BaseHTTPRequestHandler, received: Received) -> None:
        answer(200)(handler, received)
        handler.wfile.flush()
        if len(receiver.requests) == 1:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")

    with receiving(two_answers, keeps=True) as receiver:
        register(connection, box, tenant, receiver.url, clock)
        happen(connection, tenant, clock, "one", "two", "three")
        assert send(database, box, clock, concurrency=1).delivered == 3
        assert len(receiver.requests) == 3
    assert {row[3] for row in attempts(connection)} == {b""}


def test_a_head_beyond_its_bound_is_refused_also_where_all_of_it_comes_at_once(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    receiver.behaviour = lambda handler, _: handler.connection.sendall(
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 8_000 + b"\r\n"
    )
    register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "one")
    assert send(database, box, clock).retried == 1
