"""The audit log: who did which administrative action on what. Append-only."""

import getpass
import os
from collections.abc import Mapping

from psycopg.types.json import Jsonb

from storage.database import Connection


def record_audit(
    connection: Connection,
    *,
    tenant_id: str | None,
    action: str,
    subject: str,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write one entry in the caller's transaction, so that an action and its trace stand or fall together."""
    connection.execute(
        """insert into access.audit_log (tenant_id, actor, action, subject, detail)
           values (%s, %s, %s, %s, %s)""",
        (tenant_id, _actor(), action, subject, Jsonb(dict(detail or {}))),
    )


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user number without a name
        return f"uid {os.getuid()}"
