"""Alerts in PostgreSQL: the newest of a subject read, changed ones written, one lock for whoever changes them.

Belongs here: rows of `alerting.alerts` to `states.Alert` and back. Does not belong here: when an alert changes
(`states`).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from psycopg.rows import dict_row

from sensors.alerts.states import Alert, Subject, Transition
from sensors.outbox import AlertPart, EventDraft, MetricPart, SubjectPart, rfc3339
from storage.database import Connection

CONSUMER = "alerts"

_FIRST_POSITION = """
insert into alerting.positions (consumer, next_xact_id) values (%(consumer)s, '0')
on conflict (consumer) do nothing
"""
_POSITION = "select next_xact_id::text from alerting.positions where consumer = %(consumer)s for update"
_MOVE = """
update alerting.positions set next_xact_id = %(next)s::text::xid8, read_at = %(now)s where consumer = %(consumer)s
"""
_LAST_READ = "select read_at from alerting.positions where consumer = %(consumer)s"

_NEWEST = """
select distinct on (tenant_id, event_type, metric, template, extractor_vendor, extractor_model) alerts.*
from alerting.alerts
inner join
    unnest(
        %(tenants)s::text[], %(types)s::text[], %(metrics)s::text[], %(templates)s::text[], %(vendors)s::text[],
        %(models)s::text[]
    ) as subjects (tenant_id, event_type, metric, template, extractor_vendor, extractor_model)
    using (tenant_id, event_type, metric, template, extractor_vendor, extractor_model)
order by tenant_id, event_type, metric, template, extractor_vendor, extractor_model, alerts.epoch desc
"""

_BY_ID = """
select * from alerting.alerts where tenant_id = %(tenant_id)s and alert_id = %(alert_id)s
"""

_BY_IDS = "select * from alerting.alerts where alert_id = any(%(alert_ids)s)"

_INSERT = """
insert into alerting.alerts (
    tenant_id, event_type, template, extractor_vendor, extractor_model, epoch, status, severity, metric, value,
    threshold, breach_count, evaluation_count, consecutive_ok, window_start, window_end, evaluation_id, correlation_id,
    started_at, resolved_at
) values (
    %(tenant_id)s, %(event_type)s, %(template)s, %(extractor_vendor)s, %(extractor_model)s, %(epoch)s, %(status)s,
    %(severity)s, %(metric)s, %(value)s, %(threshold)s, %(breach_count)s, %(evaluation_count)s, %(consecutive_ok)s,
    %(window_start)s, %(window_end)s, %(evaluation_id)s, %(correlation_id)s, %(started_at)s, %(resolved_at)s
)
returning alert_id
"""

_UPDATE = """
update alerting.alerts
set
    status = %(status)s,
    severity = %(severity)s,
    value = %(value)s,
    threshold = %(threshold)s,
    breach_count = %(breach_count)s,
    evaluation_count = %(evaluation_count)s,
    consecutive_ok = %(consecutive_ok)s,
    window_end = %(window_end)s,
    evaluation_id = %(evaluation_id)s,
    correlation_id = %(correlation_id)s,
    resolved_at = %(resolved_at)s
where alert_id = %(alert_id)s
"""


def lock_position(connection: Connection) -> int:
    """Wait until nobody else changes alerts, for the rest of the transaction; return the next transaction to read.

    Scanners and people who resolve by hand all take this row, so that one breach has one event.
    """
    connection.execute(_FIRST_POSITION, {"consumer": CONSUMER})
    row = connection.execute(_POSITION, {"consumer": CONSUMER}).fetchone()
    return int(row[0]) if row else 0


def last_read_at(connection: Connection) -> datetime | None:
    """When somebody last read on; None if nobody ever did."""
    row = connection.execute(_LAST_READ, {"consumer": CONSUMER}).fetchone()
    return row[0] if row else None


def move_position(connection: Connection, next_xact_id: int, now: datetime) -> None:
    """Remember that every batch before `next_xact_id` is done, and when that was."""
    connection.execute(_MOVE, {"consumer": CONSUMER, "next": str(next_xact_id), "now": now})


def newest_alerts(connection: Connection, subjects: Iterable[Subject]) -> dict[Subject, Alert]:
    """The newest alert, open or not, of each subject that ever had one."""
    names = ("tenants", "types", "metrics", "templates", "vendors", "models")
    columns: Sequence[Sequence[str]] = list(zip(*subjects, strict=True)) or [()] * len(names)
    parameters = {name: list(values) for name, values in zip(names, columns, strict=True)}
    with connection.cursor(row_factory=dict_row) as cursor:
        found = [_alert(row) for row in cursor.execute(_NEWEST, parameters)]
    return {alert.subject: alert for alert in found}


def alert_by_id(connection: Connection, tenant_id: str, alert_id: UUID) -> Alert | None:
    """One alert of a tenant; None if there is none or it is another tenant's."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_BY_ID, {"tenant_id": tenant_id, "alert_id": alert_id}).fetchone()
    return _alert(row) if row else None


def alerts_by_ids(connection: Connection, alert_ids: Sequence[UUID]) -> dict[UUID, Alert]:
    """Alerts of whichever tenants, by their identifiers."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return {row["alert_id"]: _alert(row) for row in cursor.execute(_BY_IDS, {"alert_ids": list(alert_ids)})}


def save_alerts(connection: Connection, alerts: Sequence[Alert]) -> dict[tuple[Subject, int], UUID]:
    """Write alerts, stored ones before new ones (a subject has at most one open); return the identifiers of all."""
    ids: dict[tuple[Subject, int], UUID] = {}
    with connection.cursor() as cursor:
        stored = [alert for alert in alerts if alert.alert_id is not None]
        cursor.executemany(_UPDATE, [_row(alert) for alert in stored])
        ids.update({(alert.subject, alert.epoch): alert.alert_id for alert in stored if alert.alert_id})
        for alert in alerts:
            if alert.alert_id is None:
                inserted = cursor.execute(_INSERT, _row(alert)).fetchone()
                assert inserted is not None  # noqa: S101 - an insert returns its row or raises
                ids[alert.subject, alert.epoch] = inserted[0]
    return ids


def event_draft(transition: Transition, alert_id: UUID, now: datetime) -> EventDraft:
    """The event that tells a transition; its key knows the data window and the epoch, no clock and no run."""
    alert, subject = transition.alert, transition.alert.subject
    window = (rfc3339(alert.window_start) or "", rfc3339(alert.window_end) or "")
    return EventDraft(
        tenant_id=subject.tenant_id,
        event_type=subject.event_type,
        dedupe=(*subject[2:], *window, transition.status, str(alert.epoch)),
        occurred_at=now,
        alert=AlertPart(alert_id, transition.status, alert.severity, alert.started_at),
        subject=SubjectPart(
            subject.template or None, subject.extractor_vendor or None, subject.extractor_model or None
        ),
        metric=MetricPart(
            subject.metric,
            transition.value,
            alert.threshold,
            alert.window_start,
            alert.window_end,
            alert.evaluation_count,
        ),
        evaluation_id=transition.evaluation_id,
        correlation_id=transition.correlation_id,
    )


def _row(alert: Alert) -> Mapping[str, object]:
    return {**vars(alert), **alert.subject._asdict()}


def _alert(row: Mapping[str, object]) -> Alert:
    values = {name: row[name] for name in Alert.__dataclass_fields__ if name != "subject"}
    subject = Subject(*(str(row[name]) for name in Subject._fields))
    return Alert(subject=subject, **values)  # type: ignore[arg-type]
