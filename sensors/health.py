"""How alerting stands: what fires, what waits to be judged or delivered, and what of it somebody should look after.

Belongs here: counting, at a cost that follows what is open, and what is too much of it. Does not belong here: Dagster's
face of it (`sensors.assets`), the door's (`gateway.health`, which tells less).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from sensors.backlog import read_backlog
from sensors.webhooks.giving_up import GIVE_UP_AFTER
from storage.database import Connection

# Both look into their rows every few seconds; what is older than this was not looked into.
MOST_OVERDUE = timedelta(minutes=5)
NAMED = 5

_DELIVERIES = """
select
    (
        select coalesce(jsonb_object_agg(state, deliveries), '{}')
        from (
            select state, count(*) as deliveries from alerting.webhook_deliveries
            where state in ('pending', 'in_flight', 'retry', 'parked')
            group by state
        ) as open_ones
    ) as open_by_state,
    (
        select min(case deliveries.state when 'in_flight' then lease_until else next_attempt_at end)
        from alerting.webhook_deliveries as deliveries
        inner join alerting.webhooks using (webhook_id)
        where
            webhooks.status = 'active'
            and (
                (deliveries.state in ('pending', 'retry') and deliveries.next_attempt_at <= %(now)s)
                or (deliveries.state = 'in_flight' and deliveries.lease_until <= %(now)s)
            )
    ) as oldest_due_at,
    (
        select count(*) from alerting.webhook_deliveries
        where state = 'failed' and next_attempt_at >= %(now)s - interval '1 day'
    ) as failed_last_day
"""
_UNSERVED = """
select tenant_id, webhook_id, url, status, breaker_reason as reason, failing_since from alerting.webhooks
where status = 'disabled' or (status = 'active' and breaker <> 'closed')
order by tenant_id, created_at, webhook_id
"""
_FIRING = """
select severity, count(*), count(*) filter (where acked_at is null), min(started_at) from alerting.alerts
where status = 'firing'
group by severity
order by severity
"""


@dataclass(frozen=True)
class Unserved:
    """An endpoint that nothing is sent to, though nobody has paused it."""

    tenant_id: str
    webhook_id: UUID
    url: str
    status: str
    reason: str | None
    failing_since: datetime | None

    @property
    def problem(self) -> str:
        """What is wrong with it, and the remedy."""
        if self.status == "disabled":
            return (
                f"webhook {self.webhook_id} of {self.tenant_id} ({self.url}) is disabled: "
                "`tidemark webhook resume` once it answers, or `tidemark webhook delete`"
            )
        return (
            f"webhook {self.webhook_id} of {self.tenant_id} ({self.url}) is held back since "
            f"{self.failing_since:%Y-%m-%d %H:%M} UTC ({self.reason}), so its deliveries wait, each for "
            f"{GIVE_UP_AFTER.days} days at most: `tidemark webhook deliveries` shows what it answers, "
            "`tidemark webhook resume` tries it at once"
        )


def problems_of(unserved: Sequence[Unserved]) -> list[str]:
    """What is wrong with the first of these endpoints, with the remedy, and how many more there are."""
    found = [endpoint.problem for endpoint in unserved[:NAMED]]
    return found + ([f"{len(unserved) - NAMED} more webhooks are not served"] if len(unserved) > NAMED else [])


@dataclass(frozen=True)
class DeliveryHealth:
    """How deliveries stand.

    Attributes:
        open_by_state: how many are not over, by state.
        oldest_due_age: of what is due at active endpoints; zero if nothing is.
        failed_last_day: dead letters whose last attempt was in the last day, or that were given up in it; without those
            that somebody has sent again.
        unserved: endpoints that are disabled or whose breaker isn't closed.
    """

    open_by_state: Mapping[str, int]
    oldest_due_age: timedelta
    failed_last_day: int
    unserved: Sequence[Unserved]

    @property
    def problems(self) -> list[str]:
        """What somebody should look after, with the remedy; empty if nothing."""
        found = []
        if self.oldest_due_age > MOST_OVERDUE:
            found.append(
                f"a delivery is due since {_minutes(self.oldest_due_age)}: is the sensor `webhook_deliveries` on, or a "
                "dispatcher running? `tidemark webhook deliver` sends at once"
            )
        found += problems_of(self.unserved)
        if self.failed_last_day:
            found.append(
                f"{_counted(self.failed_last_day)} failed for good in the last day: "
                "`tidemark webhook deliveries --state failed` lists a tenant's, "
                "`tidemark webhook replay --state failed` sends them again"
            )
        return found


@dataclass(frozen=True)
class AlertHealth:
    """How alerts stand.

    Attributes:
        firing: how many, by severity.
        unacknowledged: how many of these nobody has acknowledged.
        oldest_firing_at: since when the oldest fires; None if none does.
        waiting_batches: landed batches that no scan has judged, counted up to 10,000.
        waiting_age: of the oldest of these.
    """

    firing: Mapping[str, int]
    unacknowledged: int
    oldest_firing_at: datetime | None
    waiting_batches: int
    waiting_age: timedelta

    @property
    def problems(self) -> list[str]:
        """What somebody should look after, with the remedy; empty if nothing."""
        if self.waiting_age <= MOST_OVERDUE:
            return []
        return [
            f"{self.waiting_batches} landed batches wait to be judged, the oldest since {_minutes(self.waiting_age)}: "
            "is the sensor `alerts` on? `tidemark alert scan` judges them at once"
        ]


def read_delivery_health(connection: Connection, now: datetime) -> DeliveryHealth:
    """Ask the database; `now`, aware, decides what is due."""
    [[open_by_state, oldest_due_at, failed]] = connection.execute(_DELIVERIES, {"now": now}).fetchall()
    age = timedelta() if oldest_due_at is None else now - oldest_due_at
    return DeliveryHealth(open_by_state, age, failed, read_unserved(connection))


def read_unserved(connection: Connection) -> Sequence[Unserved]:
    """The endpoints that are disabled or whose breaker isn't closed, by tenant."""
    with connection.cursor(row_factory=class_row(Unserved)) as cursor:
        return cursor.execute(_UNSERVED).fetchall()


def read_alert_health(connection: Connection) -> AlertHealth:
    """Ask the database."""
    rows = connection.execute(_FIRING).fetchall()
    backlog = read_backlog(connection)
    return AlertHealth(
        firing={severity: count for severity, count, _, _ in rows},
        unacknowledged=sum(unacknowledged for _, _, unacknowledged, _ in rows),
        oldest_firing_at=min((started_at for *_, started_at in rows), default=None),
        waiting_batches=backlog.batches,
        waiting_age=timedelta(seconds=backlog.age_seconds),
    )


def _counted(deliveries: int) -> str:
    return "1 delivery has" if deliveries == 1 else f"{deliveries} deliveries have"


def _minutes(age: timedelta) -> str:
    return f"{int(age.total_seconds() // 60)} minutes"
