"""API keys: made, recognized, rotated, revoked; each change with its audit entry.

Belongs here: rows of `access.api_keys`, whom a presented key speaks for. Does not belong here: the form of a key
(`key_texts`), headers and status codes (`gateway`), what a scope opens (the routes say so).
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, get_args

from psycopg.rows import class_row

from storage.audit import record_audit
from storage.database import Connection
from storage.errors import UsageError
from storage.key_texts import KeyRefusedError, KeyText
from storage.tenants import require_tenant

Scope = Literal["ingest", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_OVERLAP = timedelta(hours=24)

_NOBODY = bytes(32)
_USE_IS_NOTED_EVERY = timedelta(minutes=1)

_INSERT = """
insert into access.api_keys (key_id, tenant_id, secret_sha256, scopes, created_at, expires_at)
values (%(key_id)s, %(tenant_id)s, %(secret_sha256)s, %(scopes)s, %(now)s, %(expires_at)s)
"""

_OF_TENANT = """
select key_id, tenant_id, scopes, created_at, expires_at, last_used_at, revoked_at from access.api_keys
where tenant_id = %(tenant_id)s and (%(key_id)s::text is null or key_id = %(key_id)s)
order by created_at, key_id
"""

_PRESENTED = """
select key_id, tenant_id, scopes, created_at, expires_at, last_used_at, revoked_at, secret_sha256
from access.api_keys where key_id = %(key_id)s
"""

_NOTE_USE = """
update access.api_keys set last_used_at = %(now)s
where key_id = %(key_id)s and (last_used_at is null or last_used_at <= %(noted_before)s)
"""

_REVOKE = "update access.api_keys set revoked_at = %(now)s where key_id = %(key_id)s and revoked_at is null"

_EXPIRE = "update access.api_keys set expires_at = %(expires_at)s where key_id = %(key_id)s"


@dataclass(frozen=True)
class ApiKey:
    """One key without its secret: whose it is, and what it opens."""

    key_id: str
    tenant_id: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    def state(self, now: datetime) -> Literal["live", "expired", "revoked"]:
        """Whether it opens anything now."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "live"

    def require_live(self, now: datetime) -> None:
        """Go on only with a live key.

        Raises:
            KeyRefusedError: it has expired or was revoked.
        """
        state = self.state(now)
        if state != "live":
            raise KeyRefusedError("the key has expired" if state == "expired" else "the key was revoked")


@dataclass(frozen=True)
class _StoredKey(ApiKey):
    secret_sha256: bytes = _NOBODY


def create_key(
    connection: Connection,
    tenant_id: str,
    scopes: Sequence[str],
    *,
    now: datetime,
    lifetime: timedelta | None = None,
) -> tuple[ApiKey, str]:
    """Make a key; returns it with its text, which can be shown this once because only its SHA-256 is kept.

    Raises:
        UsageError: an unknown tenant, no scope or an unknown one, or a lifetime that has ended before it begins.
    """
    require_tenant(connection, tenant_id)
    known = _known_scopes(scopes)
    with connection.transaction():
        key, text = _insert(connection, tenant_id, known, now, lifetime)
        _audit(connection, key, "create", {"scopes": key.scopes, "expires_at": _shown(key.expires_at)})
    return key, text


def list_keys(connection: Connection, tenant_id: str) -> list[ApiKey]:
    """A tenant's keys, the oldest first, also those that open nothing any more."""
    require_tenant(connection, tenant_id)
    return _select(connection, tenant_id, None)


def revoke_key(connection: Connection, tenant_id: str, key_id: str, *, now: datetime) -> ApiKey:
    """Let a key open nothing from now on; revoking it again changes nothing.

    Raises:
        UsageError: the tenant has no such key.
    """
    with connection.transaction():
        key = _require_key(connection, tenant_id, key_id)
        if key.revoked_at is not None:
            return key
        connection.execute(_REVOKE, {"key_id": key_id, "now": now})
        _audit(connection, key, "revoke", {})
    return replace(key, revoked_at=now)


def rotate_key(
    connection: Connection, tenant_id: str, key_id: str, *, now: datetime, overlap: timedelta = DEFAULT_OVERLAP
) -> tuple[ApiKey, str, datetime]:
    """Make a key's successor, of the same scopes and lifetime; the old one stays good for the overlap.

    Returns:
        The successor, its text, which can be shown this once, and when the old key ends.

    Raises:
        UsageError: the tenant has no such key, it opens nothing any more, or the overlap is negative.
    """
    if overlap < timedelta(0):
        raise UsageError("the overlap can't be negative; 0 ends the old key at once")
    with connection.transaction():
        old = _require_key(connection, tenant_id, key_id)
        state = old.state(now)
        if state != "live":
            raise UsageError(f"key {key_id} is {state}: make a new one with `tidemark key create`")
        lifetime = None if old.expires_at is None else old.expires_at - old.created_at
        key, text = _insert(connection, tenant_id, old.scopes, now, lifetime)
        ends = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
        connection.execute(_EXPIRE, {"key_id": key_id, "expires_at": ends})
        _audit(connection, old, "rotate", {"successor": key.key_id, "expires_at": _shown(ends)})
    return key, text, ends


def verify_key(connection: Connection, presented: str, *, now: datetime) -> ApiKey:
    """Tell whom a presented key speaks for, and note its use once a minute.

    Raises:
        KeyRefusedError: it isn't a key, nobody's, expired or revoked.
    """
    text = KeyText.parse(presented)
    with connection.cursor(row_factory=class_row(_StoredKey)) as cursor:
        stored = cursor.execute(_PRESENTED, {"key_id": text.key_id}).fetchone()
    # An unknown identifier costs the same comparison, so that the time taken tells nothing.
    fits = hmac.compare_digest(_NOBODY if stored is None else stored.secret_sha256, text.secret_sha256)
    if stored is None or not fits:
        raise KeyRefusedError("the key is not known")
    stored.require_live(now)
    noted_before = now - _USE_IS_NOTED_EVERY
    if stored.last_used_at is None or stored.last_used_at <= noted_before:
        connection.execute(_NOTE_USE, {"key_id": text.key_id, "now": now, "noted_before": noted_before})
    fields = {name: getattr(stored, name) for name in ApiKey.__dataclass_fields__}
    return ApiKey(**fields)


def _insert(
    connection: Connection, tenant_id: str, scopes: list[Scope], now: datetime, lifetime: timedelta | None
) -> tuple[ApiKey, str]:
    if lifetime is not None and lifetime <= timedelta(0):
        raise UsageError("a key's lifetime must be longer than nothing")
    text = KeyText.make()
    key = ApiKey(text.key_id, tenant_id, scopes, now, None if lifetime is None else now + lifetime)
    connection.execute(
        _INSERT,
        {
            "key_id": key.key_id,
            "tenant_id": tenant_id,
            "secret_sha256": text.secret_sha256,
            "scopes": scopes,
            "now": now,
            "expires_at": key.expires_at,
        },
    )
    return key, text.whole


def _known_scopes(scopes: Sequence[str]) -> list[Scope]:
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        wrong = f"unknown scope {', '.join(unknown)}" if unknown else "a key needs a scope"
        raise UsageError(f"{wrong}. Known: {', '.join(SCOPES)}")
    return [scope for scope in SCOPES if scope in scopes]


def _require_key(connection: Connection, tenant_id: str, key_id: str) -> ApiKey:
    require_tenant(connection, tenant_id)
    found = _select(connection, tenant_id, key_id)
    if not found:
        raise UsageError(f"unknown key {key_id}: `tidemark key list --tenant {tenant_id}` shows them")
    return found[0]


def _select(connection: Connection, tenant_id: str, key_id: str | None) -> list[ApiKey]:
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        return cursor.execute(_OF_TENANT, {"tenant_id": tenant_id, "key_id": key_id}).fetchall()


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _audit(connection: Connection, key: ApiKey, action: str, detail: dict[str, object]) -> None:
    record_audit(connection, tenant_id=key.tenant_id, action=f"key.{action}", subject=key.key_id, detail=detail)
