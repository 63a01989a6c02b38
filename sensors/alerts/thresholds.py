"""Thresholds: which bound holds for whom, and changing it.

Belongs here: rows of `alerting.thresholds`, their validation and their audit entries. Does not belong here: judging
values by them (`observations`).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Literal

from psycopg.rows import class_row

from storage.audit import record_audit
from storage.database import Connection
from storage.errors import UsageError
from storage.tenants import require_tenant

MAX_AGE_LIMIT = timedelta(days=3650)
MAX_TEMPLATE_LENGTH = 200
MAX_CLEAR_N = 1_000_000

_COLUMNS = "tenant_id, event_type, template, comparison, value, severity, clear_n, max_age, enabled"

# Most specific first, as the scan picks them.
_LIST = f"""
select {_COLUMNS} from alerting.thresholds
where tenant_id is null or tenant_id = %(tenant_id)s
order by event_type, tenant_id nulls last, template nulls last
"""  # noqa: S608 - a constant of this module

_UPSERT = """
insert into alerting.thresholds
    (tenant_id, event_type, template, comparison, value, severity, clear_n, max_age, enabled)
values
    (%(tenant_id)s, %(event_type)s, %(template)s, %(comparison)s, %(value)s, %(severity)s, %(clear_n)s, %(max_age)s,
     %(enabled)s)
on conflict (tenant_id, event_type, template) do update set
    value = excluded.value,
    severity = excluded.severity,
    clear_n = excluded.clear_n,
    max_age = excluded.max_age,
    enabled = excluded.enabled,
    updated_at = now()
"""

_DELETE = """
delete from alerting.thresholds
where
    tenant_id = %(tenant_id)s
    and event_type = %(event_type)s
    and template is not distinct from %(template)s
"""

Severity = Literal["info", "warning", "critical"]


@dataclass(frozen=True)
class Threshold:
    """One row: the bound of an event type, for one template of a tenant, for a tenant, or by default (no tenant).

    Attributes:
        comparison: `above` or `below`; belongs to the event type.
        value: the bound itself is within bounds; of `drift_anomaly` the margin above the forecast's upper bound.
        clear_n: consecutive observations within bounds that resolve an alert.
        max_age: older data opens and resolves no alert.
    """

    tenant_id: str | None
    event_type: str
    template: str | None
    comparison: str
    value: float
    severity: str
    clear_n: int
    max_age: timedelta
    enabled: bool


def list_thresholds(connection: Connection, tenant_id: str) -> list[Threshold]:
    """The tenant's own thresholds and the defaults, by event type, the most specific first."""
    require_tenant(connection, tenant_id)
    with connection.cursor(row_factory=class_row(Threshold)) as cursor:
        return cursor.execute(_LIST, {"tenant_id": tenant_id}).fetchall()


def set_threshold(
    connection: Connection,
    tenant_id: str,
    event_type: str,
    value: float | None = None,
    *,
    template: str | None = None,
    severity: Severity | None = None,
    clear_n: int | None = None,
    max_age: timedelta | None = None,
    enabled: bool | None = None,
) -> Threshold:
    """Set a tenant's threshold, for all its templates or for one; what isn't given stays, or comes from the next wider.

    Raises:
        UsageError: an unknown tenant or event type, or a value that can't be a bound.
    """
    now = _effective(list_thresholds(connection, tenant_id), event_type, template)
    wanted = Threshold(
        tenant_id=tenant_id,
        event_type=event_type,
        template=template,
        comparison=now.comparison,
        value=now.value if value is None else value,
        severity=severity or now.severity,
        clear_n=now.clear_n if clear_n is None else clear_n,
        max_age=now.max_age if max_age is None else max_age,
        enabled=now.enabled if enabled is None else enabled,
    )
    check_threshold(wanted)
    connection.execute(_UPSERT, asdict(wanted))
    detail = {**asdict(wanted), "max_age": str(wanted.max_age)}
    record_audit(connection, tenant_id=tenant_id, action="threshold.set", subject=_name(wanted), detail=detail)
    return wanted


def unset_threshold(connection: Connection, tenant_id: str, event_type: str, template: str | None = None) -> None:
    """Remove a tenant's threshold, so that the next wider one holds again.

    Raises:
        UsageError: the tenant has set no such threshold.
    """
    require_tenant(connection, tenant_id)
    key = {"tenant_id": tenant_id, "event_type": event_type, "template": template}
    if not connection.execute(_DELETE, key).rowcount:
        whom = f"template {template!r}" if template else "all templates"
        raise UsageError(
            f"tenant {tenant_id} has set no threshold of {event_type} for {whom}: `tidemark threshold list` shows them"
        )
    subject = f"{event_type}/{template or '*'}"
    record_audit(connection, tenant_id=tenant_id, action="threshold.unset", subject=subject)


def _effective(known: Sequence[Threshold], event_type: str, template: str | None) -> Threshold:
    for threshold in known:
        if threshold.event_type == event_type and threshold.template in (template, None):
            return threshold
    types = ", ".join(sorted({threshold.event_type for threshold in known}))
    raise UsageError(f"no threshold is held against event type {event_type!r}. Use one of: {types}")


def check_threshold(wanted: Threshold) -> None:
    """Refuse what can't be a threshold.

    Raises:
        UsageError: saying what it would have to be.
    """
    if not math.isfinite(wanted.value) or not 0 <= wanted.value <= 1:
        raise UsageError("a threshold must be a number between 0 and 1, as the scores are")
    if not 1 <= wanted.clear_n <= MAX_CLEAR_N:
        raise UsageError(f"clear-n must be between 1 and {MAX_CLEAR_N}: so many observations resolve an alert")
    if not timedelta() < wanted.max_age <= MAX_AGE_LIMIT:
        raise UsageError(f"the maximum age must be more than 0 and at most {MAX_AGE_LIMIT.days} days")
    if wanted.template is not None and not 1 <= len(wanted.template) <= MAX_TEMPLATE_LENGTH:
        raise UsageError(f"a template's name has 1 to {MAX_TEMPLATE_LENGTH} characters")


def _name(threshold: Threshold) -> str:
    return f"{threshold.event_type}/{threshold.template or '*'}"
