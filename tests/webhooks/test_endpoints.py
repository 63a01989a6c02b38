"""Endpoints of every kind on the path of all events: what is sent, what stays secret, who may verify it."""

import base64
from dataclasses import asdict

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from delivering import SetClock, attempts, happen, register, send
from receiver import Received, Receiver, answer
from standardwebhooks import Webhook

from sensors.webhooks import registry
from sensors.webhooks.changes import change_webhook
from sensors.webhooks.deliveries import Selection, list_deliveries
from sensors.webhooks.rendering import FORMATS, Format, render
from sensors.webhooks.replays import replay_delivery
from storage.database import Connection, Database
from storage.errors import UsageError
from storage.secrets import SecretBox

TOKEN = "0123456789-url-token"


def verified_by(public_key: str, request: Received) -> bool:
    """Whether one of the request's ed25519 signatures is this key's."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_"), validate=True))
    signed = f"{request.delivery_id}.{request.headers['webhook-timestamp']}.".encode() + request.body
    for signature in request.headers["webhook-signature"].split(" "):
        version, _, encoded = signature.partition(",")
        if version == "v1a":
            try:
                key.verify(base64.b64decode(encoded), signed)
            except Exception:  # noqa: S112 - one of several, each by another key
                continue
            return True
    return False


@pytest.mark.parametrize("form", FORMATS)
def test_a_test_event_takes_the_path_of_all_events_in_every_format(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    clock: SetClock,
    receiver: Receiver,
    form: Format,
) -> None:
    webhook_id, secret = register(connection, box, tenant, receiver.url, clock, form)
    registry.send_test(connection, tenant, webhook_id, now=clock.now())
    assert send(database, box, clock, page_url="https://tidemark.example.com/").delivered == 1
    (request,) = receiver.requests
    Webhook(secret).verify(request.body, request.headers)
    [[stored]] = connection.execute("select body from alerting.events").fetchall()
    assert request.body == render(form, bytes(stored), "https://tidemark.example.com/")


def test_a_rendered_message_is_the_same_bytes_at_every_attempt_whatever_has_changed_since(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, secret = register(connection, box, tenant, receiver.url, clock, "slack")
    happen(connection, tenant, clock, "one")
    receiver.behaviour = answer(500)
    send(database, box, clock, page_url="https://before.example.com/")
    receiver.behaviour = answer(200)
    clock.move(minutes=2)
    send(database, box, clock, page_url="https://after.example.com/")
    (delivery,) = list_deliveries(connection, tenant, Selection(webhook_id))
    assert replay_delivery(connection, tenant, delivery["delivery_id"], now=clock.now())  # type: ignore[arg-type]
    send(database, box, clock)
    bodies = [request.body for request in receiver.requests]
    [[kept]] = connection.execute("select rendered from alerting.webhook_deliveries").fetchall()
    assert bodies == [bytes(kept)] * 3
    assert b"before.example.com" in bodies[0]
    assert len({request.delivery_id for request in receiver.requests}) == 1
    for request in receiver.requests:
        Webhook(secret).verify(request.body, request.headers)


def test_ed25519_keys_are_shown_rotate_with_an_overlap_and_end_when_they_are_not_wanted(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, old = register(connection, box, tenant, receiver.url, clock, ed25519=True)
    (first,) = registry.get_webhook(connection, tenant, webhook_id).public_keys
    clock.move(seconds=1)
    new = registry.rotate_webhook(connection, box, tenant, webhook_id, now=clock.now())
    second, also_first = registry.get_webhook(connection, tenant, webhook_id).public_keys
    assert also_first == first != second
    happen(connection, tenant, clock, "one")
    send(database, box, clock)
    request = receiver.requests[-1]
    versions = [signature.partition(",")[0] for signature in request.headers["webhook-signature"].split(" ")]
    assert versions == ["v1", "v1", "v1a", "v1a"]
    for secret in (old, new):
        Webhook(secret).verify(request.body, request.headers)
    assert verified_by(first, request)
    assert verified_by(second, request)
    clock.move(hours=25)
    happen(connection, tenant, clock, "two")
    send(database, box, clock)
    assert not verified_by(first, receiver.requests[-1])
    assert verified_by(second, receiver.requests[-1])
    change_webhook(connection, box, tenant, webhook_id, {"ed25519": False}, now=clock.now())
    happen(connection, tenant, clock, "three")
    send(database, box, clock)
    assert "v1a" not in receiver.requests[-1].headers["webhook-signature"]
    with pytest.raises(UsageError, match="max_in_flight: 0"):
        change_webhook(connection, box, tenant, webhook_id, {"max_in_flight": 0}, now=clock.now())
    with pytest.raises(UsageError, match="rate_per_second: -1"):
        change_webhook(connection, box, tenant, webhook_id, {"rate_per_second": -1.0}, now=clock.now())


def test_where_deliveries_go_is_in_no_answer_log_or_dump_even_if_the_endpoint_repeats_it(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    clock: SetClock,
    receiver: Receiver,
    capfd: pytest.CaptureFixture[str],
) -> None:
    url = receiver.url.replace("/hook", f"/services/T0/{TOKEN}?key=not%20a-key-token")
    webhook_id, secret = register(connection, box, tenant, url, clock, "slack", ed25519=True)
    happen(connection, tenant, clock, "one")
    receiver.behaviour = lambda handler, request: answer(404, b"x" * 950 + b"Cannot POST " + request.path.encode())(
        handler, request
    )
    send(database, box, clock)
    receiver.behaviour = answer(404, f"no webhook {TOKEN} here: /services/T0/{TOKEN}?key=not%20a-key-token".encode())
    clock.move(minutes=2)
    send(database, box, clock)
    assert receiver.requests[0].path == f"/services/T0/{TOKEN}?key=not%20a-key-token"
    shown = registry.get_webhook(connection, tenant, webhook_id)
    assert shown.url == f"http://127.0.0.1:{receiver.port}/…"
    change_webhook(connection, box, tenant, webhook_id, {"url": "https://example.com/other-token"}, now=clock.now())
    written = str(asdict(shown)) + "".join(capfd.readouterr()) + _rows(connection)
    assert str(webhook_id) in written
    for hidden in (TOKEN, "services/T0", "a-key-token", "other-token", secret, "whsk_"):
        assert hidden not in written
        assert hidden.encode().hex() not in written, "as bytes are written"
    responses = [bytes(attempt[3]) for attempt in attempts(connection)]  # type: ignore[call-overload]
    assert responses[0].startswith(b"x" * 950 + b"Cannot POST /")
    assert responses[1].decode() == "no webhook /… here: /…"


def _rows(connection: Connection) -> str:
    tables = connection.execute(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('alerting', 'access')"
    ).fetchall()
    return "\n".join(
        str(row)
        for (table,) in tables
        for row in connection.execute(f"select t::text from {table} t")  # noqa: S608
    )
