"""The audit log: who did which administrative action on what.

Belongs here: writing an entry. Does not belong here: reading, sealing and verifying them (`audit_seals`).
"""

import getpass
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from psycopg.types.json import Jsonb

from storage.database import Connection

_acting: ContextVar[str | None] = ContextVar("acting", default=None)

_RECORD = "select access.record_audit(%(tenant_id)s, %(actor)s, %(action)s, %(subject)s, %(detail)s)"


@contextmanager
def acting_as(actor: str) -> Iterator[None]:
    """Entries written in this block, by this thread or task, name `actor`, for example `key:0fm2x…` or `run:9f1c…`.

    Without it they name the operating system's user, which is right on the command line alone.
    """
    token = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(token)


def record_audit(
    connection: Connection,
    *,
    tenant_id: str | None,
    action: str,
    subject: str,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write one entry in the caller's transaction, so that an action and its trace stand or fall together."""
    entry = {
        "tenant_id": tenant_id,
        "actor": _acting.get() or _operating_system_user(),
        "action": action,
        "subject": subject,
        "detail": Jsonb(dict(detail or {})),
    }
    connection.execute(_RECORD, entry)


def _operating_system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user number without a name
        return f"uid {os.getuid()}"
