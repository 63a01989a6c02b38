"""Inhibitions: rules by which one firing alert keeps others of its tenant from being told.

Belongs here: rows of `alerting.inhibitions`, their validation and their audit entries. Does not belong here: what they
mean (`policy`). Another tenant's rule reads as unknown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from sensors.alerts.matchers import LABELS, check_matchers, read_matchers
from sensors.alerts.policy import Inhibition
from storage.audit import record_audit
from storage.database import Connection
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.tenants import require_tenant

_READ = """
select tenant_id, inhibition_id, source_matchers, target_matchers, equal_labels from alerting.inhibitions
where tenant_id = any(%(tenants)s)
order by created_at, inhibition_id
"""

_PAGE = """
select inhibition_id, source_matchers, target_matchers, equal_labels as equal, created_at from alerting.inhibitions
where
    tenant_id = %(tenant_id)s
    and (%(after_at)s::timestamptz is null or (created_at, inhibition_id) > (%(after_at)s, %(after_id)s::uuid))
order by created_at, inhibition_id
limit %(limit)s
"""

_INSERT = """
insert into alerting.inhibitions (tenant_id, source_matchers, target_matchers, equal_labels)
values (%(tenant_id)s, %(source)s, %(target)s, %(equal)s)
on conflict (tenant_id, source_matchers, target_matchers, equal_labels) do nothing
returning inhibition_id
"""

_DELETE = "delete from alerting.inhibitions where tenant_id = %(tenant_id)s and inhibition_id = %(inhibition_id)s"


def read_inhibitions(connection: Connection, tenant_ids: Iterable[str]) -> dict[str, list[tuple[UUID, Inhibition]]]:
    """The rules of those tenants that have any, the oldest first, with their identifiers."""
    found: dict[str, list[tuple[UUID, Inhibition]]] = {}
    for tenant_id, inhibition_id, source, target, equal in connection.execute(_READ, {"tenants": list(tenant_ids)}):
        rule = Inhibition(read_matchers(source), read_matchers(target), tuple(equal))
        found.setdefault(tenant_id, []).append((inhibition_id, rule))
    return found


def list_inhibitions(connection: Connection, tenant_id: str) -> list[tuple[UUID, Inhibition]]:
    """A tenant's rules, the oldest first, with their identifiers."""
    require_tenant(connection, tenant_id)
    return read_inhibitions(connection, [tenant_id]).get(tenant_id, [])


def page_of_inhibitions(
    connection: Connection, tenant_id: str, *, after: tuple[datetime, UUID] | None = None, limit: int = 100
) -> list[Mapping[str, Any]]:
    """A tenant's rules as rows, the oldest first.

    Args:
        connection: also one that may only read.
        tenant_id: whose; an unknown tenant has none.
        after: `created_at` and `inhibition_id` of the last rule of the page before.
        limit: how many at most.
    """
    after_at, after_id = after or (None, None)
    values = {"tenant_id": tenant_id, "after_at": after_at, "after_id": after_id, "limit": limit}
    with connection.cursor(row_factory=dict_row) as cursor:
        return list(cursor.execute(_PAGE, values))


def add_inhibition(connection: Connection, tenant_id: str, rule: Inhibition) -> UUID:
    """Set a rule; returns its identifier.

    Raises:
        UsageError: an unknown tenant, or matchers or labels that make no sense.
        ConflictError: the rule is set already.
    """
    require_tenant(connection, tenant_id)
    check_inhibition(rule)
    with connection.transaction():
        values = {
            "tenant_id": tenant_id,
            "source": Jsonb([asdict(matcher) for matcher in rule.source_matchers]),
            "target": Jsonb([asdict(matcher) for matcher in rule.target_matchers]),
            "equal": sorted(rule.equal),
        }
        row = connection.execute(_INSERT, values).fetchone()
        if row is None:
            raise ConflictError("this inhibition is set already: `tidemark alert inhibition list` shows it")
        inhibition_id: UUID = row[0]
        _audit(connection, tenant_id, "add", inhibition_id, inhibition_row(rule))
    return inhibition_id


def remove_inhibition(connection: Connection, tenant_id: str, inhibition_id: UUID) -> None:
    """Let a rule hold no longer; what it keeps back is told with the next scan, if it still fires.

    Raises:
        NotFoundError: the tenant has no such rule.
    """
    with connection.transaction():
        values = {"tenant_id": tenant_id, "inhibition_id": inhibition_id}
        if not connection.execute(_DELETE, values).rowcount:
            remedy = f"`tidemark alert inhibition list --tenant {tenant_id}` shows them"
            raise NotFoundError("inhibition", inhibition_id, remedy)
        _audit(connection, tenant_id, "remove", inhibition_id, {})


def check_inhibition(rule: Inhibition) -> None:
    """Refuse a rule that can't be meant.

    Raises:
        UsageError: naming the field.
    """
    check_matchers(rule.source_matchers, "source_matchers")
    check_matchers(rule.target_matchers, "target_matchers")
    check_labels(rule.equal, "equal")


def check_labels(labels: Sequence[str], field: str) -> None:
    """Refuse labels that alerts don't have, or one named twice.

    Raises:
        UsageError: naming the field.
    """
    unknown = sorted(set(labels) - set(LABELS))
    if unknown:
        raise UsageError(f"{field}: unknown label {', '.join(unknown)}. Use one of: {', '.join(LABELS)}")
    if len(set(labels)) != len(labels):
        raise UsageError(f"{field}: each label once")


def inhibition_row(rule: Inhibition) -> Mapping[str, object]:
    """A rule as people read it."""
    return {
        "source_matchers": [str(matcher) for matcher in rule.source_matchers],
        "target_matchers": [str(matcher) for matcher in rule.target_matchers],
        "equal": sorted(rule.equal),
    }


def _audit(connection: Connection, tenant_id: str, action: str, rule: UUID, detail: Mapping[str, object]) -> None:
    record_audit(connection, tenant_id=tenant_id, action=f"inhibition.{action}", subject=str(rule), detail=detail)
