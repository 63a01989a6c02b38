"""What people do with alerts: list, acknowledge, resolve by hand; each change with its audit entry.

Does not belong here: what data does with alerts (`scan`). Another tenant's alert reads as unknown.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from psycopg.rows import dict_row

from sensors.alerts import store
from sensors.alerts.notifications import tell
from sensors.alerts.states import Alert, Ending, Transition
from storage.audit import record_audit
from storage.database import Connection
from storage.errors import NotFoundError

_LIST = """
select
    alert_id, status, severity, event_type, template, extractor_vendor, extractor_model, metric, value, threshold,
    breach_count, evaluation_count, started_at, window_end, resolved_at, resolved_because, is_retracted, acked_at,
    acked_by, evaluation_id, correlation_id, evidence
from alerting.alerts
where
    tenant_id = %(tenant_id)s
    and status <> 'ok'
    and (%(status)s::text is null or status = %(status)s)
    and (%(event_type)s::text is null or event_type = %(event_type)s)
    and (%(template)s::text is null or template = %(template)s)
    and (%(after_at)s::timestamptz is null or (started_at, alert_id) < (%(after_at)s, %(after_id)s::uuid))
order by started_at desc, alert_id desc
limit %(limit)s
"""

_SHOW = """
select
    alert_id, status, severity, event_type, template, extractor_vendor, extractor_model, epoch, metric, value,
    worst_value, threshold, breach_count, evaluation_count, started_at, window_start, window_end, resolved_at,
    resolved_because, is_retracted, revision, acked_at, acked_by, evaluation_id, correlation_id, evidence
from alerting.alerts
where tenant_id = %(tenant_id)s and alert_id = %(alert_id)s
"""

_NOTIFICATIONS = """
select
    notifications.transition,
    notifications.number,
    notifications.state,
    notifications.seen_at,
    notifications.told_at,
    suppressions.reason as kept_back_by,
    suppressions.by_id
from alerting.notifications
left join alerting.suppressions using (alert_id, transition, number)
where notifications.tenant_id = %(tenant_id)s and notifications.alert_id = %(alert_id)s
order by notifications.seen_at, notifications.transition, notifications.number, suppressions.suppressed_at
"""

_ACK = """
update alerting.alerts set acked_at = %(now)s, acked_by = %(by)s
where tenant_id = %(tenant_id)s and alert_id = %(alert_id)s and acked_at is null
"""


def list_alerts(
    connection: Connection,
    tenant_id: str,
    *,
    status: str | None = None,
    event_type: str | None = None,
    template: str | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[Mapping[str, object]]:
    """A tenant's alerts, the newest first.

    Args:
        connection: also one that may only read.
        tenant_id: whose alerts; an unknown tenant has none.
        status: `pending`, `firing` or `resolved`; None for all, as with the other filters.
        event_type: only this rule's.
        template: only this template's.
        after: `started_at` and `alert_id` of the last alert of the page before.
        limit: how many at most.
    """
    after_at, after_id = after or (None, None)
    values = {
        "tenant_id": tenant_id,
        "status": status,
        "event_type": event_type,
        "template": template,
        "after_at": after_at,
        "after_id": after_id,
        "limit": limit,
    }
    with connection.cursor(row_factory=dict_row) as cursor:
        return list(cursor.execute(_LIST, values))


def show_alert(connection: Connection, tenant_id: str, alert_id: UUID) -> Mapping[str, object]:
    """One alert with all that is known of it, its evidence as in `evidence.evidence_of`.

    Raises:
        NotFoundError: the tenant has no such alert.
    """
    require_alert(connection, tenant_id, alert_id)
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_SHOW, {"tenant_id": tenant_id, "alert_id": alert_id}).fetchone()
    assert row is not None  # noqa: S101 - it was there a statement ago, and nothing deletes alerts
    return row


def list_notifications(connection: Connection, tenant_id: str, alert_id: UUID) -> list[Mapping[str, object]]:
    """What was to be told of an alert, the oldest first, with whatever has kept it back: one row for each of these.

    `state` is `told`, `held`, `grouped` (waits for its group) or `dropped`; `by_id` the silence, or the alert that
    inhibits.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        return list(cursor.execute(_NOTIFICATIONS, {"tenant_id": tenant_id, "alert_id": alert_id}))


def acknowledge(connection: Connection, tenant_id: str, alert_id: UUID, *, by: str, now: datetime) -> bool:
    """Note that somebody looks after an alert; False if somebody did already, or it is over. It goes on firing.

    Raises:
        NotFoundError: the tenant has no such alert.
    """
    if not require_alert(connection, tenant_id, alert_id).is_open:
        return False
    values = {"tenant_id": tenant_id, "alert_id": alert_id, "by": by, "now": now}
    if not connection.execute(_ACK, values).rowcount:
        return False
    record_audit(connection, tenant_id=tenant_id, action="alert.ack", subject=str(alert_id), detail={"by": by})
    return True


def resolve(connection: Connection, tenant_id: str, alert_id: UUID, *, now: datetime) -> bool:
    """End an alert by hand and tell the endpoints; False if it was over already. A later breach opens the next one.

    One that is pending has told nobody, so nobody is told that it ended.

    Raises:
        NotFoundError: the tenant has no such alert.
    """
    with connection.transaction():
        position = store.lock_position(connection)
        alert = require_alert(connection, tenant_id, alert_id)
        if not end(connection, alert, now, position, "by_hand"):
            return False
        record_audit(connection, tenant_id=tenant_id, action="alert.resolve", subject=str(alert_id))
    return True


def end(connection: Connection, alert: Alert, now: datetime, position: int, because: Ending) -> bool:
    """Close a stored alert and tell it, in a transaction that has locked `position`; False if it isn't open."""
    if alert.alert_id is None or not alert.is_open:
        return False
    if alert.status == "pending":
        store.save_alerts(connection, [replace(alert, status="ok")])
        return True
    resolved = replace(alert, status="resolved", resolved_at=now, resolved_because=because)
    store.save_alerts(connection, [resolved])
    ended = Transition("resolved", resolved, alert.value, alert.evaluation_id, alert.correlation_id)
    tell(connection, [(ended, alert.alert_id)], now, (position, position), by_hand=True)
    return True


def require_alert(connection: Connection, tenant_id: str, alert_id: UUID) -> Alert:
    """A stored alert of a tenant.

    Raises:
        NotFoundError: the tenant has no such alert.
    """
    alert = store.alert_by_id(connection, tenant_id, alert_id)
    if alert is None:
        raise NotFoundError("alert", alert_id, f"`tidemark alert list --tenant {tenant_id}` shows them")
    return alert
