"""Alerts in PostgreSQL: the newest of a subject read, changed ones written, one lock for whoever changes them.

Belongs here: rows of `alerting.alerts` to `states.Alert` and back. Does not belong here: when an alert changes
(`states`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from sensors.alerts.evidence import evidence_of
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

# Alerts whose telling late data may still undo: the newest of a subject is read with the others.
_TOLD = """
select alerts.*
from alerting.alerts
inner join
    unnest(
        %(tenants)s::text[], %(types)s::text[], %(metrics)s::text[], %(templates)s::text[], %(vendors)s::text[],
        %(models)s::text[]
    ) as subjects (tenant_id, event_type, metric, template, extractor_vendor, extractor_model)
    using (tenant_id, event_type, metric, template, extractor_vendor, extractor_model)
where not alerts.is_retracted and alerts.told_end >= %(since)s
order by alerts.epoch
"""

_BY_IDS = "select * from alerting.alerts where alert_id = any(%(alert_ids)s)"

_WRITTEN = (
    *("status", "severity", "value", "threshold", "breach_count", "evaluation_count", "consecutive_ok"),
    *("window_start", "window_end", "evaluation_id", "correlation_id", "started_at", "comparison", "worst_value"),
    *("value_start", "value_end"),
    *("resolved_at", "resolved_because", "told_start", "told_end", "told_value", "told_rule", "told_window"),
    *("revision", "is_retracted", "contributors", "baseline", "evidence"),
)
_KEY = (*Subject._fields, "epoch")

_INSERT = f"""
insert into alerting.alerts ({", ".join((*_KEY, *_WRITTEN))})
values ({", ".join(f"%({name})s" for name in (*_KEY, *_WRITTEN))})
returning alert_id
"""  # noqa: S608 - constants of this module

# Who looked after an alert that was pending and is no longer has not looked after the next one.
_UPDATE = f"""
update alerting.alerts
set
    {", ".join(f"{name} = %({name})s" for name in _WRITTEN)},
    acked_at = case when %(status)s <> 'ok' then acked_at end,
    acked_by = case when %(status)s <> 'ok' then acked_by end
where alert_id = %(alert_id)s
"""  # noqa: S608 - constants of this module


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
    with connection.cursor(row_factory=dict_row) as cursor:
        found = [_alert(row) for row in cursor.execute(_NEWEST, _columns(subjects))]
    return {alert.subject: alert for alert in found}


def told_alerts(
    connection: Connection, subjects: Collection[Subject], since: datetime
) -> dict[tuple[Subject, datetime, datetime], Alert]:
    """What was told of data that ended at `since` or later and is not retracted, by subject and window."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = [_alert(row) for row in cursor.execute(_TOLD, _columns(subjects) | {"since": since})]
    return {
        (alert.subject, alert.told_start, alert.told_end): alert
        for alert in found
        if alert.told_start is not None and alert.told_end is not None
    }


def _columns(subjects: Iterable[Subject]) -> dict[str, object]:
    names = ("tenants", "types", "metrics", "templates", "vendors", "models")
    columns: Sequence[Sequence[str]] = list(zip(*subjects, strict=True)) or [()] * len(names)
    return {name: list(values) for name, values in zip(names, columns, strict=True)}


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
    finding = transition.finding
    starts, ends, count = transition.data
    window = (rfc3339(starts) or "", rfc3339(ends) or "")
    restated = (str(alert.revision),) if transition.status in ("amended", "retracted") else ()
    return EventDraft(
        tenant_id=subject.tenant_id,
        event_type=subject.event_type,
        dedupe=(*subject[2:], *window, transition.status, str(alert.epoch), *restated),
        occurred_at=now,
        alert=AlertPart(
            alert_id,
            transition.status,
            alert.severity,
            alert.started_at,
            alert.resolved_because if transition.status == "resolved" else None,
        ),
        subject=SubjectPart(
            subject.template or None, subject.extractor_vendor or None, subject.extractor_model or None
        ),
        metric=MetricPart(
            subject.metric,
            transition.value,
            finding.threshold if finding else alert.threshold,
            starts,
            ends,
            count,
            _expected_on(alert) if transition.status in ("firing", "amended") else None,
        ),
        evaluation_id=transition.evaluation_id,
        correlation_id=transition.correlation_id,
    )


def _expected_on(alert: Alert) -> str | None:
    forecast = (alert.baseline or {}).get("forecast")
    return forecast.get("expected_on") if isinstance(forecast, Mapping) else None


def _row(alert: Alert) -> Mapping[str, object]:
    json = {
        "contributors": Jsonb(list(alert.contributors)),
        "baseline": Jsonb(dict(alert.baseline or {})),
        "evidence": Jsonb(evidence_of(alert)),
        "told_window": None if alert.told_window is None else Jsonb(dict(alert.told_window)),
    }
    return {**vars(alert), **alert.subject._asdict(), **json}


def _alert(row: Mapping[str, object]) -> Alert:
    values = {name: row[name] for name in Alert.__dataclass_fields__ if name != "subject"}
    # Null in what was written before they were kept.
    for name, stand_in in {"worst_value": "value", "value_start": "window_start", "value_end": "window_end"}.items():
        if values[name] is None:
            values[name] = values[stand_in]
    subject = Subject(*(str(row[name]) for name in Subject._fields))
    return Alert(subject=subject, **values)  # type: ignore[arg-type]
