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
