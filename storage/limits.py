"""Monthly limits: what a tenant may land over the network, and what has been counted against it.

Belongs here: `access.tenant_limits` and the counters beside it. Does not belong here: counting (a trigger of the
receipts does it, so that no door can forget), status codes (`gateway`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from storage.audit import record_audit
from storage.database import Connection
from storage.errors import TidemarkError, UsageError
from storage.locks import AdvisoryLock
from storage.tenants import require_tenant

_MOST = 2**63 - 1
# More than two processes of the door land at once (8 connections each, batches of 10,000). Nearer to the limit than
# that, a tenant's batches land one after the other: else each would find the room that is there for one.
_NEAR = 200_000
_LOCK = "select pg_advisory_lock(hashtextextended(%(tenant_id)s, %(seed)s))"
_UNLOCK = "select pg_advisory_unlock(hashtextextended(%(tenant_id)s, %(seed)s))"

_SET = """
insert into access.tenant_limits (tenant_id, records_a_month) values (%(tenant_id)s, %(records)s)
on conflict (tenant_id) do update set records_a_month = excluded.records_a_month, updated_at = now()
"""

# The server's month, which is also the counters'.
_USAGE = """
with month as (
    select date_trunc('month', clock_timestamp() at time zone 'UTC') as begins
)
select
    (select records_a_month from access.tenant_limits where tenant_id = %(tenant_id)s),
    (
        select coalesce(sum(accepted), 0)::bigint from access.tenant_usage_counters
        where tenant_id = %(tenant_id)s and month = month_now.begins::date
    ),
    (month_now.begins + interval '1 month') at time zone 'UTC' - clock_timestamp()
from month as month_now
"""


@dataclass(frozen=True)
class Usage:
    """A tenant's month so far.

    Attributes:
        limit: records that may be accepted in the month; None is unlimited.
        accepted: records accepted, by whatever door.
        ends_in: until the month, in UTC, is over.
    """

    limit: int | None
    accepted: int
    ends_in: timedelta

    @property
    def is_near_limit(self) -> bool:
        """Whether batches that land at once could pass the limit together."""
        return self.limit is not None and self.limit - self.accepted < _NEAR


class LimitReachedError(TidemarkError):
    """The tenant has landed what it may land this month."""

    def __init__(self, usage: Usage) -> None:
        super().__init__(
            f"this month's limit of {usage.limit} records is reached ({usage.accepted} were accepted); ask the "
            "operator for more (`tidemark tenant limit`), or send again next month"
        )
        self.usage = usage


def set_monthly_limit(connection: Connection, tenant_id: str, records: int | None) -> None:
    """Set how many records a tenant may land in a month, None for any number; in the caller's transaction, audited.

    Raises:
        UsageError: an unknown tenant, or a number that can't be a limit.
    """
    require_tenant(connection, tenant_id)
    if records is not None and not 0 <= records <= _MOST:
        raise UsageError(f"--records-a-month must be a number from 0 to {_MOST}, or none")
    connection.execute(_SET, {"tenant_id": tenant_id, "records": records})
    detail = {"records_a_month": records}
    record_audit(connection, tenant_id=tenant_id, action="tenant.limit", subject=tenant_id, detail=detail)


def monthly_usage(connection: Connection, tenant_id: str) -> Usage:
    """What a tenant has landed this month, and what it may."""
    row = connection.execute(_USAGE, {"tenant_id": tenant_id}).fetchone()
    assert row is not None  # noqa: S101 - a select from one row has a row
    return Usage(*row)


@contextmanager
def allowance(connection: Connection, tenant_id: str) -> Iterator[None]:
    """Land in the block, only if the tenant may still land something: the batch that reaches the limit lands whole.

    Args:
        connection: in autocommit mode, the landing's own.
        tenant_id: whose batch it is.

    Raises:
        LimitReachedError: the month's limit is reached.
    """
    if not _require_room(connection, tenant_id).is_near_limit:
        yield
        return
    lock = {"tenant_id": tenant_id, "seed": AdvisoryLock.MONTHLY_LIMIT.value}
    connection.execute(_LOCK, lock)
    try:
        # Asked again: the batch before may have been the one that reached it.
        _require_room(connection, tenant_id)
        yield
    finally:
        # A session that is lost has given the lock up by itself.
        with suppress(psycopg.OperationalError):
            connection.execute(_UNLOCK, lock)


def _require_room(connection: Connection, tenant_id: str) -> Usage:
    usage = monthly_usage(connection, tenant_id)
    if usage.limit is not None and usage.accepted >= usage.limit:
        raise LimitReachedError(usage)
    return usage
