"""Retention: months of evaluations that are no longer kept, dropped once the warehouse has all of them.

What may go is decided by functions of the database (migrations 0003 and 0021), which role `retention` may call and
nothing else.

Belongs here: asking those functions, in order. Does not belong here: any condition on what may be dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from psycopg import errors

from storage.audit import record_audit
from storage.database import Connection
from storage.locks import AdvisoryLock

_ONE_WRITER = "select pg_advisory_xact_lock(%(key)s)"
_BECOME = "set local role retention"
_BE_ONESELF = "set local role none"
_MONTHS = "select month, refusal from raw.droppable_months(%(keep_from)s)"
_COUNT = """
select count(*) from raw.evaluations
where created_at >= %(month)s::date::timestamp at time zone 'UTC'
    and created_at < (%(month)s::date + interval '1 month') at time zone 'UTC'
"""
_DROP = "select raw.drop_evaluations_month(%(month)s, %(keep_from)s)"
_DROP_HISTORY = "select raw.drop_superseded_history()"
_DROP_SNAPSHOTS = "select ml.drop_superseded_snapshots()"


@dataclass(frozen=True)
class Month:
    """A month of evaluations older than what is kept.

    Attributes:
        month: its first day.
        refusal: why it can't be dropped; None if it can.
        evaluations: how many it has, or had before it was dropped; None if it stays.
    """

    month: date
    refusal: str | None = None
    evaluations: int | None = None


@dataclass(frozen=True)
class Retained:
    """What a retention did, or would do.

    Attributes:
        keep_from: the first day that is kept whole; None if evaluations are kept for ever.
        months: the months older than that, oldest first.
        superseded: how many outdated versions of drift_history were forgotten.
        snapshots: how many recommendations that no evaluation on hand was chosen by.
    """

    keep_from: date | None
    months: Sequence[Month] = ()
    superseded: int = 0
    snapshots: int = 0

    @property
    def evaluations(self) -> int:
        """How many evaluations were dropped."""
        return sum(month.evaluations or 0 for month in self.months)


def plan_retention(connection: Connection, days: int | None, today: date) -> Retained:
    """Say what would be dropped, and what can't be.

    Args:
        connection: of the platform.
        days: how many days of evaluations are kept; None keeps them for ever.
        today: the current UTC day.
    """
    if days is None:
        return Retained(None)
    keep_from = today - timedelta(days=days)
    with connection.transaction():
        connection.execute(_BECOME)
        months = connection.execute(_MONTHS, {"keep_from": keep_from}).fetchall()
    return Retained(keep_from, tuple(Month(month, refusal) for month, refusal in months))


def count_evaluations(connection: Connection, plan: Retained) -> Retained:
    """The plan with the number of evaluations in each month that would go."""
    return replace(
        plan,
        months=[
            month if month.refusal is not None else replace(month, evaluations=_count(connection, month.month))
            for month in plan.months
        ],
    )


def _count(connection: Connection, month: date) -> int:
    [[count]] = connection.execute(_COUNT, {"month": month}).fetchall()
    return int(count)


def retain(connection: Connection, days: int | None, today: date) -> Retained:
    """Drop what is no longer kept, each month in a transaction of its own, up to the first that can't be dropped.

    Args:
        connection: of the platform, in autocommit mode.
        days: how many days of evaluations are kept; None keeps them for ever.
        today: the current UTC day.
    """
    plan = plan_retention(connection, days, today)
    months = list(plan.months)
    for place, month in enumerate(months):
        if month.refusal is not None:
            break
        months[place] = _drop(connection, month.month, plan.keep_from)
    superseded = _alone(connection, _DROP_HISTORY, {}, "drift_history_versions")
    snapshots = _alone(connection, _DROP_SNAPSHOTS, {}, "recommendation_snapshots")
    return Retained(plan.keep_from, tuple(months), superseded, snapshots)


def _drop(connection: Connection, month: date, keep_from: date | None) -> Month:
    try:
        names = {"month": month, "keep_from": keep_from}
        return Month(month, evaluations=_alone(connection, _DROP, names, f"evaluations {month:%Y-%m}"))
    except errors.LockNotAvailable:
        return Month(month, refusal="is busy: someone reads or writes evaluations all the time")
    except errors.ObjectNotInPrerequisiteState as error:
        return Month(month, refusal=error.diag.message_primary)


def _alone(connection: Connection, query: str, names: Mapping[str, object], subject: str) -> int:
    """Call a function as role retention while no build reads or writes, and note in the audit log what it dropped."""
    with connection.transaction():
        connection.execute(_ONE_WRITER, {"key": AdvisoryLock.WAREHOUSE_BUILD.value})
        connection.execute(_BECOME)
        [[count]] = connection.execute(query.encode(), names).fetchall()
        connection.execute(_BE_ONESELF)
        if count:
            record_audit(connection, tenant_id=None, action="retention.drop", subject=subject, detail={"rows": count})
    return int(count)
