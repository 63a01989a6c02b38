"""What of the delivery log is no longer kept: bodies first, attempts and deliveries later, never of what is open.

What may go is decided by functions of the database (migration 0014), which role `retention` may call. An event's row
stays with its hash and dedupe key, so that what happened once isn't told again.
"""

from dataclasses import dataclass
from datetime import datetime

from storage.audit import record_audit
from storage.database import Connection

_BECOME = "set local role retention"
_BE_ONESELF = "set local role none"
_PRUNE_BODIES = "select alerting.prune_event_bodies(%(before)s)"
_PRUNE_DELIVERIES = "select attempts, deliveries from alerting.prune_deliveries(%(before)s)"


@dataclass(frozen=True)
class PrunedLog:
    """How much of the delivery log was forgotten."""

    bodies: int
    attempts: int
    deliveries: int


def prune_delivery_log(
    connection: Connection, bodies_before: datetime, attempts_before: datetime, *, dry_run: bool = False
) -> PrunedLog:
    """Forget bodies of events, attempts and deliveries that are older, and note it in the audit log.

    Args:
        connection: of the platform.
        bodies_before: bodies of events from before this go, aware.
        attempts_before: attempts from before this go, and then deliveries without any.
        dry_run: count what would go, by letting it go and taking that back.
    """
    with connection.transaction(force_rollback=dry_run):
        connection.execute(_BECOME)
        [[bodies]] = connection.execute(_PRUNE_BODIES, {"before": bodies_before}).fetchall()
        [[attempts, deliveries]] = connection.execute(_PRUNE_DELIVERIES, {"before": attempts_before}).fetchall()
        connection.execute(_BE_ONESELF)
        pruned = PrunedLog(bodies, attempts, deliveries)
        if any(vars(pruned).values()):
            detail = vars(pruned)
            record_audit(connection, tenant_id=None, action="retention.drop", subject="webhook log", detail=detail)
    return pruned
