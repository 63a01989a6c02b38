"""The outbox: events as the exact bytes that will be signed and sent, and a delivery row for each endpoint.

Belongs here: the body's shape (version 1), its bytes, and the rows, written in the caller's transaction. Does not
belong here: deciding what happened (`sensors.alerts`) or sending anything (`sensors.webhooks`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from storage.database import Connection

CHANNEL = "tidemark_deliveries"
BODY_VERSION = 1
EVENT_TYPES = (
    "drift_high",
    "reliability_low",
    "decision_review",
    "template_new",
    "drift_anomaly",
    "drift_predicted",
    "feature_drift",
    "extractor_change",
    "evaluations_missing",
    "records_rejected",
    "webhook_disabled",
    "webhook_test",
)

_NEXT_IDS = "select nextval('alerting.event_seq'), uuidv7() from generate_series(1, %(count)s)"

_INSERT_EVENT = """
insert into alerting.events
    (event_id, tenant_id, seq, event_type, alert_id, dedupe_key, body, body_sha256, occurred_at)
values (
    %(event_id)s, %(tenant_id)s, %(seq)s, %(event_type)s, %(alert_id)s, %(dedupe_key)s, %(body)s, sha256(%(body)s),
    %(occurred_at)s
)
on conflict (dedupe_key) do nothing
"""

# Events that were in the outbox before have no row under the new id, so they get no second delivery. A paused endpoint
# gets its rows too: they wait, nothing is lost. Locked, so that one being deleted gets none: whoever deletes it waits,
# and cancels them, or is waited for. In the order of the events, because their identifiers tell the time.
_INSERT_DELIVERIES = """
insert into alerting.webhook_deliveries (tenant_id, event_id, webhook_id, subject_key, next_attempt_at)
select
    events.tenant_id,
    events.event_id,
    webhooks.webhook_id,
    subjects.subject_key,
    %(now)s
from alerting.events
inner join unnest(%(event_ids)s::uuid [], %(subject_keys)s::bytea []) as subjects (event_id, subject_key)
    on events.event_id = subjects.event_id
inner join alerting.webhooks on events.tenant_id = webhooks.tenant_id
where
    webhooks.status in ('active', 'paused')
    and webhooks.webhook_id is distinct from %(except)s::uuid
    and case
        when %(only)s::uuid is null
            then cardinality(webhooks.event_types) = 0 or events.event_type = any(webhooks.event_types)
        else webhooks.webhook_id = %(only)s
    end
order by events.seq
for key share of webhooks
on conflict (event_id, webhook_id) do nothing
"""

_COUNT_EVENTS = "select count(*), max(seq) from alerting.events where event_id = any(%(event_ids)s)"


@dataclass(frozen=True)
class AlertPart:
    """The body's `alert`: all null where an event belongs to none; it has a `resolved_because` only where it says."""

    alert_id: UUID | None = None
    status: str | None = None
    severity: str | None = None
    started_at: datetime | None = None
    resolved_because: str | None = None


@dataclass(frozen=True)
class SubjectPart:
    """The body's `subject`: whose behaviour it is; the extractor is null where the whole template is meant."""

    template: str | None = None
    extractor_vendor: str | None = None
    extractor_model: str | None = None


@dataclass(frozen=True)
class MetricPart:
    """The body's `metric`: the value, the bound it is held against, and the data it was taken from.

    `expected_on` is the ISO date on which what is forecast is expected; the body has it only where there is one.
    """

    name: str | None = None
    value: float | None = None
    threshold: float | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    evaluation_count: int | None = None
    expected_on: str | None = None


@dataclass(frozen=True)
class EventDraft:
    """An event before it has its identifier and number.

    Attributes:
        dedupe: what makes it this event and no other, never a clock or a run; hashed together with tenant and type.
        occurred_at: when Tidemark saw the transition; the data's own times are in `metric`.
        group: JSON, of an event that tells several alerts at once; the body has a `group` only then.
    """

    tenant_id: str
    event_type: str
    dedupe: tuple[str, ...]
    occurred_at: datetime
    alert: AlertPart = AlertPart()
    subject: SubjectPart = SubjectPart()
    metric: MetricPart = MetricPart()
    evaluation_id: UUID | None = None
    correlation_id: str | None = None
    group: Mapping[str, object] | None = None

    @property
    def subject_key(self) -> bytes:
        """16 bytes: events of one subject have the same; what an endpoint in order is told one after the other."""
        return sha256(json.dumps(list(vars(self.subject).values())).encode()).digest()[:16]

    @property
    def dedupe_key(self) -> bytes:
        """32 bytes: the same happening has the same key whenever and however often it is found."""
        return sha256(json.dumps([self.tenant_id, self.event_type, *self.dedupe]).encode()).digest()


@dataclass(frozen=True)
class Published:
    """What a call has added: rows of events and deliveries, and the newest event's number."""

    events: int = 0
    deliveries: int = 0
    last_seq: int | None = None


def publish(
    connection: Connection,
    drafts: Sequence[EventDraft],
    now: datetime,
    *,
    only_webhook: UUID | None = None,
    except_webhook: UUID | None = None,
) -> Published:
    """Add events and their deliveries in the caller's transaction; an event that is there already adds nothing.

    Args:
        connection: inside the transaction that also holds the cause.
        drafts: in the order in which they get their numbers.
        now: from when the deliveries are due, aware.
        only_webhook: deliver to this endpoint alone, whatever types it asked for.
        except_webhook: not to this endpoint, since it is the one that the events are about.
    """
    if not drafts:
        return Published()
    ids = connection.execute(_NEXT_IDS, {"count": len(drafts)}).fetchall()
    rows = [_row(draft, seq, event_id) for draft, (seq, event_id) in zip(drafts, ids, strict=True)]
    with connection.cursor() as cursor:
        cursor.executemany(_INSERT_EVENT, rows)
    event_ids = [event_id for _, event_id in ids]
    counted = connection.execute(_COUNT_EVENTS, {"event_ids": event_ids}).fetchone()
    values = {
        "event_ids": event_ids,
        "subject_keys": [draft.subject_key for draft in drafts],
        "now": now,
        "only": only_webhook,
        "except": except_webhook,
    }
    added = connection.execute(_INSERT_DELIVERIES, values).rowcount
    if added:
        connection.execute("select pg_notify(%s, '')", (CHANNEL,))
    events, last_seq = counted or (0, None)
    return Published(events=events, deliveries=added, last_seq=last_seq)


def body(draft: EventDraft, event_id: UUID, seq: int) -> bytes:
    """The one serialization of an event: sorted keys, no spaces, UTF-8."""
    content: dict[str, object] = {
        "id": str(event_id),
        "type": draft.event_type,
        "version": BODY_VERSION,
        "tenant": draft.tenant_id,
        "occurred_at": rfc3339(draft.occurred_at),
        "seq": seq,
        **alert_members(draft),
        "evaluation_id": _text(draft.evaluation_id),
        "correlation_id": draft.correlation_id,
    }
    if draft.group is not None:
        content["group"] = draft.group
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def alert_members(draft: EventDraft) -> dict[str, object]:
    """The body's `alert`, `subject` and `metric`."""
    alert, metric = draft.alert, draft.metric
    ending = {} if alert.resolved_because is None else {"resolved_because": alert.resolved_because}
    forecast = {} if metric.expected_on is None else {"expected_on": metric.expected_on}
    return {
        "alert": {
            "id": _text(alert.alert_id),
            "status": alert.status,
            "severity": alert.severity,
            "started_at": rfc3339(alert.started_at),
            **ending,
        },
        "subject": {
            "template": draft.subject.template,
            "extractor_vendor": draft.subject.extractor_vendor,
            "extractor_model": draft.subject.extractor_model,
        },
        "metric": {
            "name": metric.name,
            "value": metric.value,
            "threshold": metric.threshold,
            "window_start": rfc3339(metric.window_start),
            "window_end": rfc3339(metric.window_end),
            "evaluation_count": metric.evaluation_count,
            **forecast,
        },
    }


def rfc3339(time: datetime | None) -> str | None:
    """An aware time in UTC with a Z."""
    return None if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _row(draft: EventDraft, seq: int, event_id: UUID) -> Mapping[str, object]:
    return {
        "event_id": event_id,
        "tenant_id": draft.tenant_id,
        "seq": seq,
        "event_type": draft.event_type,
        "alert_id": draft.alert.alert_id,
        "dedupe_key": draft.dedupe_key,
        "body": body(draft, event_id, seq),
        "occurred_at": draft.occurred_at,
    }


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
