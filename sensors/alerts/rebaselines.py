"""Re-baselines: somebody accepts an alert's level as its subject's new normal, with a reason and a trace.

A permanent shift keeps an alert firing. A re-baseline ends it and gives the subject a bound of its own, which holds
where it allows more than the rule does, until it is ended or replaced; the distance to the clear value stays the
rule's.
`from_at` tells from when the data is of the new level, for whatever learns a baseline from history.

Belongs here: rows of `alerting.rebaselines`. Does not belong here: heeding them (`alerting.rules_for`).
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from sensors.alerts import store
from sensors.alerts.administration import end, require_alert
from sensors.alerts.states import Alert
from storage.audit import record_audit
from storage.database import Connection
from storage.errors import ConflictError, NotFoundError, UsageError

# Of the others no level can be accepted: they are news, or a sender's own rhythm.
EVENT_TYPES = (
    *("drift_high", "reliability_low", "drift_anomaly", "drift_predicted", "feature_drift", "extractor_change"),
    "records_rejected",
)

_COLUMNS = """
    rebaseline_id, event_type, metric, template, extractor_vendor, extractor_model, bound, previous_bound, from_at,
    reason, author, alert_id, created_at, ended_at
"""

_REPLACE = """
update alerting.rebaselines set ended_at = %(now)s
where
    ended_at is null and tenant_id = %(tenant_id)s and event_type = %(event_type)s and template = %(template)s
    and extractor_vendor = %(extractor_vendor)s and extractor_model = %(extractor_model)s and metric = %(metric)s
"""

_INSERT = f"""
insert into alerting.rebaselines
    (tenant_id, event_type, metric, template, extractor_vendor, extractor_model, alert_id, bound, previous_bound,
     from_at, reason, author, created_at)
values
    (%(tenant_id)s, %(event_type)s, %(metric)s, %(template)s, %(extractor_vendor)s, %(extractor_model)s, %(alert_id)s,
     %(bound)s, %(previous_bound)s, %(from_at)s, %(reason)s, %(author)s, %(now)s)
returning {_COLUMNS}
"""  # noqa: S608 - constants of this module

_LIST = f"""
select {_COLUMNS} from alerting.rebaselines where tenant_id = %(tenant_id)s
order by created_at desc, rebaseline_id desc
"""  # noqa: S608 - constants of this module

_END = """
update alerting.rebaselines set ended_at = %(now)s
where tenant_id = %(tenant_id)s and rebaseline_id = %(rebaseline_id)s and ended_at is null
"""
_EXISTS = "select 1 from alerting.rebaselines where tenant_id = %(tenant_id)s and rebaseline_id = %(rebaseline_id)s"


def rebaseline(
    connection: Connection,
    tenant_id: str,
    alert_id: UUID,
    *,
    reason: str,
    author: str,
    now: datetime,
    bound: float | None = None,
) -> Mapping[str, Any]:
    """End a firing alert and give its subject a bound of its own; returns the row.

    Args:
        connection: a transaction of the caller's, or one that commits by itself.
        tenant_id: whose alert.
        alert_id: which one.
        reason: why the new level is all right.
        author: who decides so.
        now: the time, aware.
        bound: in the unit of the alert's threshold; the alert's worst value, if not given.

    Raises:
        NotFoundError: the tenant has no such alert.
        ConflictError: it doesn't fire.
        UsageError: there is nothing to re-baseline in its rule, no reason, or a bound that its level still breaks.
    """
    if not reason.strip():
        raise UsageError("reason: say why the new level is all right; it is kept with the re-baseline")
    with connection.transaction():
        position = store.lock_position(connection)
        alert = require_alert(connection, tenant_id, alert_id)
        values = {
            **alert.subject._asdict(),
            "alert_id": alert_id,
            "bound": _bound(alert, bound),
            "previous_bound": alert.threshold,
            "from_at": alert.started_at,
            "reason": reason.strip(),
            "author": author,
            "now": now,
        }
        connection.execute(_REPLACE, values)
        with connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(_INSERT, values).fetchone()
        assert row is not None  # noqa: S101 - an insert returns its row or raises
        end(connection, alert, now, position, "rebaselined")
        detail = {"bound": row["bound"], "previous_bound": alert.threshold, "reason": row["reason"], "author": author}
        record_audit(connection, tenant_id=tenant_id, action="alert.rebaseline", subject=str(alert_id), detail=detail)
    return row


def list_rebaselines(connection: Connection, tenant_id: str) -> list[Mapping[str, Any]]:
    """A tenant's re-baselines, the newest first; `ended_at` is null where one still holds."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return list(cursor.execute(_LIST, {"tenant_id": tenant_id}))


def end_rebaseline(connection: Connection, tenant_id: str, rebaseline_id: UUID, *, now: datetime) -> None:
    """Let the rule's own bound hold again.

    Raises:
        NotFoundError: the tenant has no such re-baseline.
        ConflictError: it has ended already.
    """
    values = {"tenant_id": tenant_id, "rebaseline_id": rebaseline_id, "now": now}
    if not connection.execute(_END, values).rowcount:
        if connection.execute(_EXISTS, values).fetchone() is None:
            raise NotFoundError("re-baseline", rebaseline_id, "`tidemark alert rebaselines` shows them")
        raise ConflictError(f"re-baseline {rebaseline_id} has ended already")
    record_audit(connection, tenant_id=tenant_id, action="alert.rebaseline_end", subject=str(rebaseline_id))


def _bound(alert: Alert, wanted: float | None) -> float:
    if alert.subject.event_type not in EVENT_TYPES:
        raise UsageError(
            f"{alert.subject.event_type} has no level to accept; resolve the alert, or change its rule with "
            "`tidemark threshold set`"
        )
    if alert.status != "firing":
        raise ConflictError("only an alert that fires can be re-baselined: its level is the one that is accepted")
    bound = alert.worst_value if wanted is None else wanted
    is_broken = alert.value > bound if alert.comparison == "above" else alert.value < bound
    if not math.isfinite(bound) or is_broken:
        raise UsageError(f"value: {bound:g} would be broken by the alert's newest value, {alert.value:g}, at once")
    return bound
