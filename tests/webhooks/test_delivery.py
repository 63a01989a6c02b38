"""Deliveries to a real receiver, with a clock that is set."""

import hmac
import threading
from datetime import timedelta
from hashlib import sha256

import psycopg
import pytest
from delivering import LOOPBACK, SetClock, attempts, happen, options, register, send, states
from receiver import Receiver, answer, receiving
from standardwebhooks import Webhook, WebhookVerificationError

from sensors.webhooks.claims import claim
from sensors.webhooks.deliveries import Selection, list_deliveries
from sensors.webhooks.registry import (
    delete_webhook,
    get_webhook,
    pause_webhook,
    resume_webhook,
    rotate_webhook,
    send_test,
)
from sensors.webhooks.replays import replay_delivery
from storage.database import Connection, Database
from storage.errors import UsageError
from storage.secrets import SecretBox

OTHER_KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU="


def test_what_arrives_is_what_was_stored_and_both_signatures_verify(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    _, secret = register(connection, box, tenant, receiver.url + "?token=a%20b", clock)
    happen(connection, tenant, clock, "one")
    result = send(database, box, clock)
    assert (result.delivered, result.left) == (1, 0)
    (request,) = receiver.requests
    row = connection.execute(
        "select delivery_id, body from alerting.webhook_deliveries join alerting.events using (event_id)"
    ).fetchone()
    assert row is not None
    assert (request.delivery_id, request.body) == (str(row[0]), bytes(row[1]))
    assert request.path == "/hook?token=a%20b"
    assert Webhook(secret).verify(request.body, request.headers)["type"] == "drift_high"
    seed = "sha256=" + hmac.new(secret.encode(), request.body, sha256).hexdigest()
    assert request.headers["x-webhook-signature"] == seed
    assert request.headers["x-webhook-delivery-id"] == request.delivery_id
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["accept-encoding"] == "identity"
    assert attempts(connection) == [(1, 200, None, b"ok", True)]


def test_a_failing_endpoint_is_tried_after_1_5_and_30_minutes_then_failed_then_replayed_with_the_same_bytes(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    receiver.behaviour = answer(500, b"broken")
    register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "one")
    for number, minutes in enumerate((1, 5, 30), start=1):
        assert send(database, box, clock).retried == 1
        row = connection.execute("select delivery_id, next_attempt_at from alerting.webhook_deliveries").fetchone()
        assert row is not None
        delay = row[1] - clock.now()
        assert timedelta(minutes=minutes) <= delay <= timedelta(minutes=minutes) * 1.1
        clock.time = row[1] - timedelta(seconds=1)
        assert send(database, box, clock).attempted == 0
        clock.time = row[1]
        assert len(receiver.requests) == number
    assert send(database, box, clock).failed == 1
    assert states(connection) == ["failed"]
    clock.move(days=30)
    assert send(database, box, clock).attempted == 0
    receiver.behaviour = answer(204)
    assert replay_delivery(connection, tenant, row[0], now=clock.now())
    assert not replay_delivery(connection, tenant, row[0], now=clock.now())
    assert send(database, box, clock).delivered == 1
    assert {(request.delivery_id, request.body) for request in receiver.requests} == {
        (str(row[0]), receiver.requests[0].body)
    }
    assert [attempt[:2] for attempt in attempts(connection)] == [(1, 500), (2, 500), (3, 500), (4, 500), (1, 204)]


def test_410_disables_the_endpoint_and_tells_the_tenants_others(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    with receiving(answer(410)) as gone:
        webhook_id, _ = register(connection, box, tenant, gone.url, clock)
        register(connection, box, tenant, receiver.url, clock)
        happen(connection, tenant, clock, "one")
        send(database, box, clock)
        happen(connection, tenant, clock, "two")
        send(database, box, clock)
        assert len(gone.requests) == 1
        told = [request.headers["x-webhook-event"] for request in receiver.requests]
        assert sorted(told) == ["drift_high", "drift_high", "webhook_disabled"]
        assert get_webhook(connection, tenant, webhook_id).status == "disabled"
        with pytest.raises(UsageError, match="resume"):
            send_test(connection, tenant, webhook_id, now=clock.now())
        gone.behaviour = answer(200)
        resume_webhook(connection, tenant, webhook_id)
        send_test(connection, tenant, webhook_id, now=clock.now())
        assert send(database, box, clock).delivered == 1


def test_a_redirect_is_not_followed(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    with receiving(answer(307, Location=receiver.url)) as detour:
        register(connection, box, tenant, detour.url, clock)
        happen(connection, tenant, clock, "one")
        assert send(database, box, clock).retried == 1
    assert receiver.requests == []


def test_a_paused_endpoints_events_wait_and_a_deleted_ones_are_cancelled(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, _ = register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "one")
    pause_webhook(connection, tenant, webhook_id)
    happen(connection, tenant, clock, "two")
    assert send(database, box, clock).attempted == 0
    resume_webhook(connection, tenant, webhook_id)
    assert send(database, box, clock).delivered == 2
    happen(connection, tenant, clock, "three")
    (waiting, *_) = list_deliveries(connection, tenant, Selection(webhook_id))
    delete_webhook(connection, tenant, webhook_id)
    happen(connection, tenant, clock, "four")
    assert send(database, box, clock).attempted == 0
    assert states(connection) == ["delivered", "delivered", "cancelled"]
    with pytest.raises(UsageError, match="deleted"):
        replay_delivery(connection, tenant, waiting["delivery_id"], now=clock.now())  # type: ignore[arg-type]


def test_after_a_rotation_both_secrets_verify_for_a_day_and_then_the_new_one_alone(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, old = register(connection, box, tenant, receiver.url, clock)
    new = rotate_webhook(connection, box, tenant, webhook_id, now=clock.now())
    happen(connection, tenant, clock, "one")
    send(database, box, clock)
    for secret in (old, new):
        Webhook(secret).verify(receiver.requests[0].body, receiver.requests[0].headers)
    clock.move(hours=24)
    happen(connection, tenant, clock, "two")
    send(database, box, clock)
    assert receiver.requests[1].headers["webhook-signature"].count("v1,") == 1
    seed = "sha256=" + hmac.new(new.encode(), receiver.requests[1].body, sha256).hexdigest()
    assert receiver.requests[1].headers["x-webhook-signature"] == seed


def test_a_leaked_secret_signs_nothing_from_the_commit_that_ends_it(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, leaked = register(connection, box, tenant, receiver.url, clock, ed25519=True)
    (before,) = get_webhook(connection, tenant, webhook_id).public_keys
    happen(connection, tenant, clock, "one")
    connection.execute("set lock_timeout = '100ms'")
    with database.connect(autocommit=True) as drainer, drainer.transaction(force_rollback=True):
        assert claim(drainer, clock.now(), 1)
        # It signs while it holds the endpoint: to end the secret is to wait for it.
        with pytest.raises(psycopg.errors.LockNotAvailable):
            rotate_webhook(connection, box, tenant, webhook_id, now=clock.now(), overlap=timedelta(0))
    # Told by a machine whose clock is ahead of the drainer's.
    ahead = clock.now() + timedelta(minutes=1)
    issued = rotate_webhook(connection, box, tenant, webhook_id, now=ahead, overlap=timedelta(0))
    rotate_webhook(connection, box, tenant, webhook_id, now=ahead)
    send(database, box, clock)
    (request,) = receiver.requests
    Webhook(issued).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(leaked).verify(request.body, request.headers)
    assert before not in get_webhook(connection, tenant, webhook_id).public_keys
    details = connection.execute("select detail from access.audit_log where action = 'webhook.rotate' order by 1")
    assert sorted(detail["overlap_hours"] for (detail,) in details) == [0, 24]
    with pytest.raises(UsageError, match="from 0 to 365 days"):
        rotate_webhook(connection, box, tenant, webhook_id, now=ahead, overlap=timedelta(hours=-1))


def test_however_often_an_endpoint_is_rotated_its_newest_five_secrets_sign_and_no_more(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, _ = register(connection, box, tenant, receiver.url, clock, ed25519=True)
    issued = [rotate_webhook(connection, box, tenant, webhook_id, now=clock.now()) for _ in range(9)]
    happen(connection, tenant, clock, "one")
    send(database, box, clock)
    (request,) = receiver.requests
    assert sorted(one.split(",")[0] for one in request.headers["webhook-signature"].split()) == ["v1"] * 5 + ["v1a"] * 5
    for secret in issued[-5:]:
        Webhook(secret).verify(request.body, request.headers)


def test_a_secret_that_cannot_be_opened_stops_no_other_delivery(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    register(connection, SecretBox([OTHER_KEY]), tenant, receiver.url + "/sealed", clock)
    register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "one", "two", "three")
    result = send(database, box, clock, concurrency=1)
    assert (result.delivered, result.retried) == (3, 3)
    assert {request.path for request in receiver.requests} == {"/hook"}
    errors = {str(attempt[2]) for attempt in attempts(connection) if attempt[2]}
    assert len(errors) == 1
    assert "TIDEMARK_SECRET_KEYS" in errors.pop()


def test_no_secret_and_no_key_is_in_any_row_or_log(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    clock: SetClock,
    receiver: Receiver,
    capfd: pytest.CaptureFixture[str],
) -> None:
    webhook_id, first = register(connection, box, tenant, receiver.url, clock)
    second = rotate_webhook(connection, box, tenant, webhook_id, now=clock.now())
    happen(connection, tenant, clock, "one")
    receiver.behaviour = answer(500)
    send(database, box, clock)
    tables = connection.execute(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('alerting', 'access')"
    ).fetchall()
    rows = "\n".join(
        str(row)
        for (table,) in tables
        for row in connection.execute(f"select t::text from {table} t")  # noqa: S608
    )
    written = rows + "".join(capfd.readouterr())
    assert str(webhook_id) in written
    for secret in (first, second):
        assert secret not in written
        assert secret.removeprefix("whsec_").encode().hex() not in written


def test_several_drains_at_once_send_each_delivery_once(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, *(str(number) for number in range(60)))
    delivered: list[int] = []
    barrier = threading.Barrier(3)

    def one() -> None:
        barrier.wait()
        delivered.append(send(database, box, clock, concurrency=4).delivered)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(delivered) == 60
    assert len({request.delivery_id for request in receiver.requests}) == len(receiver.requests) == 60


def test_nothing_is_claimed_after_the_time_is_up(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "one", "two")
    result = send(database, box, clock, seconds=0)
    assert (result.attempted, result.left) == (0, 2)


def test_the_default_options_reach_no_loopback() -> None:
    assert options().allowed == LOOPBACK
    assert type(options())().allowed == ()
