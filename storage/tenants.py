"""Tenants: made by an administrator, looked up by every door."""

import re

from storage.audit import record_audit
from storage.database import Connection
from storage.errors import UsageError

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def create_tenant(connection: Connection, tenant_id: str, name: str | None = None) -> bool:
    """Make a tenant and return True, or False if it exists already.

    Raises:
        UsageError: the identifier isn't a slug of at most 63 characters.
    """
    if not _SLUG.fullmatch(tenant_id):
        raise UsageError(
            f"tenant {tenant_id!r}: use 1-63 lower-case letters, digits, '-' or '_', starting with a letter or digit"
        )
    created = connection.execute(
        "insert into access.tenants (tenant_id, name) values (%s, %s) on conflict do nothing returning 1",
        (tenant_id, name or tenant_id),
    ).fetchone()
    if created:
        record_audit(connection, tenant_id=tenant_id, action="tenant.create", subject=tenant_id)
    return created is not None


def set_tier(connection: Connection, tenant_id: str, tier: str | None) -> None:
    """Put a tenant into a tier, whose thresholds hold where it has set none of its own; None: into no tier.

    Raises:
        UsageError: an unknown tenant, or a tier's name that isn't a slug.
    """
    require_tenant(connection, tenant_id)
    if tier is not None:
        require_tier_name(tier)
    connection.execute("update access.tenants set tier = %s where tenant_id = %s", (tier, tenant_id))
    record_audit(connection, tenant_id=tenant_id, action="tenant.tier", subject=tenant_id, detail={"tier": tier})


def require_tier_name(tier: str) -> None:
    """Refuse what can't be the name of a tier.

    Raises:
        UsageError: it isn't a slug of at most 63 characters.
    """
    if not _SLUG.fullmatch(tier):
        raise UsageError(
            f"tier {tier!r}: use 1-63 lower-case letters, digits, '-' or '_', beginning with a letter or digit"
        )


def require_tenant(connection: Connection, tenant_id: str) -> str:
    """Return the identifier of an existing tenant.

    Raises:
        UsageError: there is no such tenant; the message says how to make one.
    """
    if connection.execute("select 1 from access.tenants where tenant_id = %s", (tenant_id,)).fetchone() is None:
        known = [row[0] for row in connection.execute("select tenant_id from access.tenants order by 1 limit 20")]
        listed = f"Known: {', '.join(known)}." if known else "There are none yet."
        raise UsageError(f"unknown tenant {tenant_id!r}. {listed} Create it with: tidemark tenant create {tenant_id}")
    return tenant_id


def lock_tenant(connection: Connection, tenant_id: str) -> None:
    """Until the transaction ends nobody else who locks this tenant goes on; rows that refer to it may still be written.

    For whoever decides by what others may be about to change.
    """
    connection.execute("select from access.tenants where tenant_id = %s for no key update", (tenant_id,))
