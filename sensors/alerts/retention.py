"""What of the log of notifications is no longer kept: transitions of alerts that are over, and what kept them back.

What may go is decided by a function of the database (migration 0015), which role `retention` may call: nothing that
waits, nor what an open alert, late data, a suppression window or a dry run still reads. Alerts themselves stay.
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from storage.audit import record_audit
from storage.database import Connection

_BECOME = "set local role retention"
_BE_ONESELF = "set local role none"
_PRUNE = "select notifications, suppressions, groups from alerting.prune_notifications(%(before)s)"


@dataclass(frozen=True)
class PrunedNotifications:
    """How much of the log was forgotten."""

    notifications: int
    suppressions: int
    groups: int


def prune_notifications(connection: Connection, before: datetime, *, dry_run: bool = False) -> PrunedNotifications:
    """Forget what is older, and note it in the audit log.

    Args:
        connection: of the platform.
        before: aware; what a dry run may look back at (62 days) stays whatever is said here.
        dry_run: count what would go, by letting it go and taking that back.
    """
    with connection.transaction(force_rollback=dry_run):
        connection.execute(_BECOME)
        with connection.cursor(row_factory=class_row(PrunedNotifications)) as cursor:
            [pruned] = cursor.execute(_PRUNE, {"before": before}).fetchall()
        connection.execute(_BE_ONESELF)
        if any(vars(pruned).values()):
            detail = vars(pruned)
            record_audit(connection, tenant_id=None, action="retention.drop", subject="alert log", detail=detail)
    return pruned
