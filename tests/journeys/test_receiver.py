"""The demo's receiver takes what is rightly signed and nothing else."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from orchestration.demo.receiver import Receiver

SECRET = "whsec_" + "c2FtcGxlLXNlY3JldC1vZi10aGUtdGVzdHMh"
OTHER_SECRET = "whsec_" + "YW5vdGhlci1zZWNyZXQtb2YtdGhlLXRlc3Q="
BODY = json.dumps({"type": "drift_high", "tenant": "acme"}).encode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        receiver.trust("/acme", SECRET)
        yield receiver


def signed(body: bytes = BODY, secret: str = SECRET, webhook_id: str = "d-1", age: timedelta = timedelta(0)) -> dict:
    """The headers that a sender computes, by the independent library."""
    at = datetime.now(UTC) - age
    return {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(webhook_id, at, body.decode()),
        "X-Webhook-Signature": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        "X-Webhook-Event": "drift_high",
        "X-Webhook-Delivery-ID": webhook_id,
    }


def send(receiver: Receiver, headers: dict, body: bytes = BODY, path: str = "/acme") -> int:
    return httpx.post(receiver.url(path), content=body, headers=headers).status_code


def test_a_rightly_signed_webhook_is_verified_and_remembered(receiver: Receiver) -> None:
    assert send(receiver, signed()) == 204
    (event,) = receiver.events
    assert (event.event_type, event.webhook_id, event.verified, event.body) == ("drift_high", "d-1", True, BODY)


def test_a_retry_is_answered_204_and_counts_once(receiver: Receiver) -> None:
    assert [send(receiver, signed()) for _ in range(3)] == [204, 204, 204]
    assert send(receiver, signed(webhook_id="d-2")) == 204
    assert [event.webhook_id for event in receiver.events] == ["d-1", "d-2"]
    assert [request.repeated for request in receiver.requests] == [False, True, True, False]


def test_during_a_rotation_both_secrets_are_accepted(receiver: Receiver) -> None:
    receiver.trust("/acme", OTHER_SECRET)
    assert send(receiver, signed()) == 204
    assert send(receiver, signed(secret=OTHER_SECRET, webhook_id="d-2")) == 204


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"webhook-signature": Webhook(OTHER_SECRET).sign("d-1", datetime.now(UTC), BODY.decode())}, "No matching"),
        ({"webhook-signature": "v1,"}, "No matching"),
        ({"webhook-signature": "nonsense"}, "can't be read"),
        ({"webhook-id": "d-9", "X-Webhook-Delivery-ID": "d-9"}, "No matching"),
        ({"webhook-timestamp": "soon"}, "Invalid"),
        ({"X-Webhook-Signature": "sha256=" + "0" * 64}, "X-Webhook-Signature"),
        ({"X-Webhook-Signature": "é".encode()}, "X-Webhook-Signature"),
        ({"X-Webhook-Event": "template_new"}, "X-Webhook-Event"),
        ({"X-Webhook-Delivery-ID": "d-9"}, "X-Webhook-Delivery-ID"),
    ],
)
def test_headers_that_do_not_fit_are_refused(receiver: Receiver, change: dict, problem: str) -> None:
    assert send(receiver, signed() | change) == 401
    (request,) = receiver.requests
    assert problem in request.problem
    assert not receiver.events


@pytest.mark.parametrize(
    "missing",
    ["webhook-id", "webhook-timestamp", "webhook-signature", "X-Webhook-Signature", "X-Webhook-Event"],
)
def test_a_missing_header_is_refused(receiver: Receiver, missing: str) -> None:
    assert send(receiver, {name: value for name, value in signed().items() if name != missing}) == 401


def test_a_tampered_body_is_refused(receiver: Receiver) -> None:
    assert send(receiver, signed(), BODY.replace(b"acme", b"evil")) == 401


def test_a_body_that_is_no_event_is_refused_although_rightly_signed(receiver: Receiver) -> None:
    for body in (b"[]", b"{}", b"not json", b""):
        assert send(receiver, signed(body), body) == 401
    assert not receiver.events


def test_a_wrong_secret_and_an_untrusted_path_are_refused(receiver: Receiver) -> None:
    assert send(receiver, signed(secret=OTHER_SECRET)) == 401
    assert send(receiver, signed(), path="/somebody-else") == 401


@pytest.mark.parametrize("age", [timedelta(minutes=6), timedelta(minutes=-6)])
def test_a_replayed_or_postdated_webhook_is_refused(receiver: Receiver, age: timedelta) -> None:
    assert send(receiver, signed(age=age)) == 401
    assert "timestamp too" in receiver.requests[0].problem


def test_a_refused_request_does_not_use_up_its_id(receiver: Receiver) -> None:
    assert send(receiver, signed(age=timedelta(hours=1))) == 401
    assert send(receiver, signed()) == 204
    assert len(receiver.events) == 1


def test_a_huge_body_is_refused_unread(receiver: Receiver) -> None:
    address = httpx.URL(receiver.url("/acme"))
    connection = HTTPConnection(address.host, address.port or 0, timeout=10)
    connection.putrequest("POST", address.path)
    connection.putheader("Content-Length", str(10**9))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert not receiver.requests


def test_waiting_ends_when_the_events_are_there(receiver: Receiver) -> None:
    assert send(receiver, signed()) == 204
    assert receiver.wait_for_events(1, timeout=0)
    assert not receiver.wait_for_events(2, timeout=0)
