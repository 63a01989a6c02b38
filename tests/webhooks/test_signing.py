"""Signatures that independent verifiers accept."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from sensors.webhooks.signing import new_key_pair, new_secret, sign


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


def test_an_ed25519_signature_stands_beside_hmac_and_the_public_key_alone_verifies_it() -> None:
    secret, (private, public), body, delivery_id = new_secret(), new_key_pair(), b'{"a":1}', uuid4()
    headers = sign(body, [secret, private], delivery_id=delivery_id, event_type="drift_high", at=_now())
    Webhook(secret).verify(body, headers)
    symmetric, asymmetric = headers["webhook-signature"].split(" ")
    assert (symmetric[:3], asymmetric[:4]) == ("v1,", "v1a,")
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_"), validate=True))
    signature = base64.b64decode(asymmetric.removeprefix("v1a,"), validate=True)
    signed = f"{delivery_id}.{headers['webhook-timestamp']}.".encode() + body
    key.verify(signature, signed)
    with pytest.raises(InvalidSignature):
        key.verify(signature, signed + b" ")
    assert headers["X-Webhook-Signature"].endswith(hmac.new(secret.encode(), body, hashlib.sha256).hexdigest())


def test_a_private_key_as_other_implementations_write_it_makes_the_signature_that_they_make() -> None:
    # Seed and public key, 64 bytes, as the reference implementations of Standard Webhooks keep them.
    seed = bytes(range(32))
    public = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    private = "whsk_" + base64.b64encode(seed + bytes.fromhex(public)).decode()
    headers = sign(b"{}", [new_secret(), private], delivery_id=UUID(int=7), event_type="x", at=_now())
    signature = base64.b64decode(headers["webhook-signature"].rpartition("v1a,")[2])
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    key.verify(signature, f"{UUID(int=7)}.{headers['webhook-timestamp']}.{{}}".encode())
