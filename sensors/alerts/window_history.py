"""Windows that were told, as `raw.evaluations` has them: as they were, and with what has come late.

What has landed until a batch never changes, so what was told is found again until retention drops it. Reads the
tenant's rows of the window's time; only where something late falls into what was told, and for what is told newly.

Does not belong here: windows that are kept (`window_rows`).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from assets.evaluations.contract import template_id
from sensors.alerts.states import CONTRIBUTORS, Alert, Observation, Subject
from sensors.alerts.windows import BILLION, Batch, Key, Late, Reading, Row, mean, observation
from storage.database import Connection

# In billionths; null where there is no such metric.
VALUE = """(
        round(
            case {event_type}
                when 'drift_high' then evaluations.drift_score
                when 'reliability_low' then evaluations.reliability_score
                else case evaluations.decision when 'undecided' then null when 'review' then 1.0 else 0.0 end
            end::numeric, 9
        ) * 1000000000
    )::bigint"""

_LANDED = f"""
select evaluations.created_at, evaluations.evaluation_id, {VALUE.format(event_type="%(event_type)s::text")} as value
from raw.evaluations
inner join raw.ingest_batches as receipts on evaluations.batch_id = receipts.batch_id
where
    evaluations.tenant_id = %(tenant_id)s
    and evaluations.template_id = %(template_id)s
    and evaluations.extractor_vendor = %(extractor_vendor)s
    and evaluations.extractor_model = %(extractor_model)s
    and evaluations.created_at >= %(since)s
    and (evaluations.created_at, evaluations.evaluation_id) <= (%(last_at)s::timestamptz, %(last_id)s::uuid)
    and {VALUE.format(event_type="%(event_type)s::text")} is not null
    and (receipts.xact_id, receipts.batch_id) <= (%(xact_id)s::text::xid8, %(batch_id)s::uuid)
order by evaluations.created_at desc, evaluations.evaluation_id desc
limit %(limit)s
"""  # noqa: S608 - constants of this module


def told_again(connection: Connection, alert: Alert, late: Late) -> Observation | None:
    """The mean that an alert has told, as it is with what came late; None where that can't be in it, or can't be known.

    Args:
        connection: in UTC.
        alert: of the same subject.
        late: what came late.
    """
    told = alert.told_window
    if told is None or alert.is_retracted or alert.told_rule != late.rule.text:
        return None
    first, last, count = _key(told["first"]), _key(told["last"]), int(told["evaluation_count"])
    since = first[0] if count == late.rule.limit else last[0] - late.rule.span
    if late.latest < since or late.earliest > last[0]:
        return None
    rows = _landed(connection, alert.subject, since, last, late.until, late.rule.limit)
    if len(rows) < count:
        return None  # retention has dropped some of it
    value = mean(sum(row.value for row in rows), len(rows))
    return observation(late.rule, Reading(rows[-1], value, rows[0][:2], rows[-1][:2], len(rows), late.until))


def contributors(connection: Connection, alert: Alert) -> list[Mapping[str, object]]:
    """The evaluations that brought most of the mean that an alert has told, worst first; none if it told no mean."""
    told = alert.told_window
    if told is None:
        return []
    first, last = _key(told["first"]), _key(told["last"])
    until = (int(told["until"]["xact_id"]), UUID(told["until"]["batch_id"]))
    rows = _landed(connection, alert.subject, first[0], last, until, int(told["evaluation_count"]))
    sign = -1 if alert.comparison == "above" else 1
    worst = sorted(rows, key=lambda row: (sign * row.value, row[:2]))[:CONTRIBUTORS]
    return [
        {
            "evaluation_id": str(row.evaluation_id),
            "value": row.value / BILLION,
            "created_at": row.created_at.isoformat(),
        }
        for row in worst
    ]


def _key(end: Mapping[str, Any]) -> Key:
    return datetime.fromisoformat(end["created_at"]), UUID(end["evaluation_id"])


def _landed(
    connection: Connection, subject: Subject, since: datetime, last: Key, until: Batch, limit: int | None
) -> list[Row]:
    values = {
        **subject._asdict(),
        "template_id": template_id(subject.tenant_id, subject.template),
        "since": since,
        "last_at": last[0],
        "last_id": last[1],
        "xact_id": str(until[0]),
        "batch_id": until[1],
        "limit": limit,
    }
    return [Row(*row) for row in reversed(connection.execute(_LANDED, values).fetchall())]
