"""Silences: times during which matching alerts are to notify nobody; set, listed and ended, with their audit entries.

Belongs here: rows of `alerting.silences` and what each kept back. Does not belong here: what a matcher means
(`matchers`) and heeding silences (`policy`, `notifications`). Another tenant's silence reads as unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from sensors.alerts.matchers import Matcher, check_matchers
from storage.audit import record_audit
from storage.database import Connection
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.tenants import require_tenant

State = Literal["pending", "active", "ended"]

_COLUMNS = """
    silence_id, matchers, starts_at, ends_at, author, comment, created_at,
    case when %(now)s < starts_at then 'pending' when %(now)s < ends_at then 'active' else 'ended' end as state,
    (
        select count(*) from alerting.suppressions
        where suppressions.tenant_id = silences.tenant_id and suppressions.by_id = silences.silence_id
    ) as suppressed
"""

_LIST = f"""
select {_COLUMNS}
from alerting.silences
where
    tenant_id = %(tenant_id)s
    and (%(after_at)s::timestamptz is null or (starts_at, silence_id) < (%(after_at)s, %(after_id)s::uuid))
    and case %(state)s::text
        when 'pending' then %(now)s < starts_at
        when 'active' then %(now)s >= starts_at and %(now)s < ends_at
        when 'ended' then %(now)s >= ends_at
        else true
    end
order by starts_at desc, silence_id desc
limit %(limit)s
"""  # noqa: S608 - constants

_INSERT = f"""
insert into alerting.silences (tenant_id, matchers, starts_at, ends_at, author, comment, created_at)
values (%(tenant_id)s, %(matchers)s, %(starts_at)s, %(ends_at)s, %(author)s, %(comment)s, %(now)s)
returning {_COLUMNS}
"""  # noqa: S608 - constants

_SUPPRESSED = """
select
    suppressions.suppression_id, suppressions.alert_id, suppressions.transition, suppressions.number,
    suppressions.suppressed_at, notifications.state, alerts.event_type, alerts.severity, alerts.template,
    alerts.extractor_vendor, alerts.extractor_model
from alerting.suppressions
inner join alerting.alerts using (alert_id)
left join alerting.notifications using (alert_id, transition, number)
where
    suppressions.tenant_id = %(tenant_id)s
    and suppressions.by_id = %(silence_id)s
    and (%(after_id)s::uuid is null or suppressions.suppression_id < %(after_id)s)
order by suppressions.suppression_id desc
limit %(limit)s
"""

_KNOWN = "select 1 from alerting.silences where tenant_id = %(tenant_id)s and silence_id = %(silence_id)s"

_FIND = """
select starts_at, ends_at from alerting.silences
where tenant_id = %(tenant_id)s and silence_id = %(silence_id)s
for update
"""

_END = "update alerting.silences set ends_at = %(now)s where silence_id = %(silence_id)s"

# One that has not begun was never in force: nothing is left to remember but the audit log's two entries.
_WITHDRAW = "delete from alerting.silences where silence_id = %(silence_id)s"


def create_silence(
    connection: Connection,
    tenant_id: str,
    matchers: Sequence[Matcher],
    *,
    ends_at: datetime,
    author: str,
    now: datetime,
    starts_at: datetime | None = None,
    comment: str = "",
) -> Mapping[str, Any]:
    """Set a silence for alerts that every matcher fits; from now on, if no start is given. Returns its row.

    Raises:
        UsageError: an unknown tenant, no matcher, one that fits every alert or none, or a time that is over.
    """
    require_tenant(connection, tenant_id)
    begins = starts_at or now
    check_matchers(matchers, "matchers")
    if ends_at <= max(begins, now):
        raise UsageError("ends_at: a silence ends after now and after it begins")
    values = {
        "tenant_id": tenant_id,
        "matchers": Jsonb([asdict(matcher) for matcher in matchers]),
        "starts_at": begins,
        "ends_at": ends_at,
        "author": author,
        "comment": comment,
        "now": now,
    }
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_INSERT, values).fetchone()
        assert row is not None  # noqa: S101 - an insert returns its row or raises
        detail = {
            "matchers": row["matchers"],
            "starts_at": begins.isoformat(),
            "ends_at": ends_at.isoformat(),
            "author": author,
        }
        _audit(connection, tenant_id, "create", row["silence_id"], detail)
    return row


def list_silences(
    connection: Connection,
    tenant_id: str,
    *,
    now: datetime,
    state: State | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[Mapping[str, Any]]:
    """A tenant's silences, the last to begin first; `after` a `starts_at` and `silence_id`."""
    after_at, after_id = after or (None, None)
    values = {
        "tenant_id": tenant_id,
        "now": now,
        "state": state,
        "after_at": after_at,
        "after_id": after_id,
        "limit": limit,
    }
    with connection.cursor(row_factory=dict_row) as cursor:
        return list(cursor.execute(_LIST, values))


def list_suppressed(
    connection: Connection, tenant_id: str, silence_id: UUID, *, after: UUID | None = None, limit: int = 100
) -> list[Mapping[str, Any]]:
    """What a silence kept back, the newest first; `state` says what became of it: `held`, `told` later, or `dropped`.

    Raises:
        NotFoundError: the tenant has no such silence.
    """
    values = {"tenant_id": tenant_id, "silence_id": silence_id, "after_id": after, "limit": limit}
    with connection.cursor(row_factory=dict_row) as cursor:
        if cursor.execute(_KNOWN, values).fetchone() is None:
            raise NotFoundError("silence", silence_id, "the tenant has none of this identifier")
        return list(cursor.execute(_SUPPRESSED, values))


def end_silence(connection: Connection, tenant_id: str, silence_id: UUID, *, now: datetime) -> None:
    """Let a silence hold no longer; one that has not begun is withdrawn.

    Raises:
        NotFoundError: the tenant has no such silence.
        ConflictError: it has ended already.
    """
    values = {"tenant_id": tenant_id, "silence_id": silence_id, "now": now}
    with connection.transaction():
        row = connection.execute(_FIND, values).fetchone()
        if row is None:
            raise NotFoundError("silence", silence_id, "the tenant has none of this identifier")
        starts_at, ends_at = row
        if ends_at <= now:
            raise ConflictError(f"silence {silence_id} has ended already")
        connection.execute(_END if starts_at < now else _WITHDRAW, values)
        _audit(connection, tenant_id, "end", silence_id, {"ends_at": ends_at.isoformat()})


def _audit(connection: Connection, tenant_id: str, action: str, silence_id: UUID, detail: Mapping[str, object]) -> None:
    record_audit(connection, tenant_id=tenant_id, action=f"silence.{action}", subject=str(silence_id), detail=detail)
