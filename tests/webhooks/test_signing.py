"""Signatures that independent verifiers accept."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from sensors.webhooks.signing import new_secret, sign


def _now() -> datetime:
    # Asked for in each test: verifiers refuse what is five minutes old, and the suite takes longer than that.
    return datetime.fromtimestamp(int(time.time()), UTC)


@given(content=st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_an_independent_library_verifies_the_bytes_and_refuses_any_other(content: dict[str, object]) -> None:
    secret, body = new_secret(), json.dumps(content, ensure_ascii=True).encode()
    headers = sign(body, [secret], delivery_id=uuid4(), event_type="drift_high", at=_now())
    assert Webhook(secret).verify(body, headers) == content
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers)


def test_the_headers_are_those_of_the_interface_computed_by_hand() -> None:
    secret, body, delivery_id = "whsec_" + base64.b64encode(bytes(range(32))).decode(), b'{"a":1}', uuid4()
    now = _now()
    headers = sign(body, [secret], delivery_id=delivery_id, event_type="template_new", at=now)
    timestamp = str(int(now.timestamp()))
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    standard = base64.b64encode(hmac.new(bytes(range(32)), signed, hashlib.sha256).digest()).decode()
    assert headers == {
        "X-Webhook-Signature": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        "X-Webhook-Event": "template_new",
        "X-Webhook-Delivery-ID": str(delivery_id),
        "webhook-id": str(delivery_id),
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{standard}",
    }


def test_during_a_rotation_every_live_secret_verifies_on_its_own() -> None:
    new, old, body = new_secret(), new_secret(), b"{}"
    headers = sign(body, [new, old], delivery_id=uuid4(), event_type="drift_high", at=_now())
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (new, old):
        Webhook(secret).verify(body, headers)
    assert headers["X-Webhook-Signature"].endswith(hmac.new(new.encode(), body, hashlib.sha256).hexdigest())


def test_secrets_are_32_random_bytes() -> None:
    secrets = {new_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert {len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) for secret in secrets} == {32}
