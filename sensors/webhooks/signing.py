"""Signatures: the seed header and Standard Webhooks on the same request. Pure: bytes in, headers out.

Belongs here: HMAC (`v1`) and ed25519 (`v1a`), and what their keys look like. Does not belong here: where keys are kept
(`keys`), sending (`transport`).

References:
    Standard Webhooks, specification 1.0: https://www.standardwebhooks.com
"""

import base64
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PREFIX = "whsec_"
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
SECRET_BYTES = 32


def new_secret() -> str:
    """A fresh signing secret: `whsec_` and the base64 of 32 random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def new_key_pair() -> tuple[str, str]:
    """A fresh ed25519 pair: `whsk_` and the base64 of seed and public key, `whpk_` and that of the public key."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    private = PRIVATE_PREFIX + base64.b64encode(key.private_bytes_raw() + public).decode()
    return private, PUBLIC_PREFIX + base64.b64encode(public).decode()


def sign(
    body: bytes, live_secrets: Sequence[str], *, delivery_id: UUID, event_type: str, at: datetime
) -> dict[str, str]:
    """The headers that let a receiver verify `body`.

    Args:
        body: exactly the bytes that are sent.
        live_secrets: as issued (`whsec_…`, `whsk_…`), the newest first; at least one `whsec_…`. The seed header has
            room for one signature and is made with the newest of these; `webhook-signature` has one for each, so that
            a receiver may change over at any moment of a rotation.
        delivery_id: stable over retries: what a receiver drops repeats by.
        event_type: the event's type.
        at: the time of this request, aware.
    """
    timestamp = str(int(at.timestamp()))
    newest = next(secret for secret in live_secrets if secret.startswith(PREFIX))
    signed = b".".join((str(delivery_id).encode(), timestamp.encode(), body))
    return {
        "X-Webhook-Signature": "sha256=" + hmac.new(newest.encode(), body, sha256).hexdigest(),
        "X-Webhook-Event": event_type,
        "X-Webhook-Delivery-ID": str(delivery_id),
        "webhook-id": str(delivery_id),
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_standard(secret, signed) for secret in live_secrets),
    }


def _standard(secret: str, signed: bytes) -> str:
    if secret.startswith(PRIVATE_PREFIX):
        seed = base64.b64decode(secret.removeprefix(PRIVATE_PREFIX), validate=True)[:SECRET_BYTES]
        return "v1a," + base64.b64encode(Ed25519PrivateKey.from_private_bytes(seed).sign(signed)).decode()
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    return "v1," + base64.b64encode(hmac.new(key, signed, sha256).digest()).decode()
