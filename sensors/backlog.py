"""What waits behind the door: batches that no alert scan has taken, deliveries that are open. For whoever watches.

Belongs here: counting, at a cost that follows what waits and not what there is. Does not belong here: doing the work.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from sensors.alerts.store import CONSUMER
from storage.database import Connection

MOST_COUNTED = 10_000

# Each branch of the deliveries has an index of its own, so that history costs nothing.
_READ = """
with backlog as (
    select received_at from raw.ingest_batches
    where
        kind = 'evaluations'
        and xact_id >= coalesce(
            (select next_xact_id from alerting.positions where consumer = %(consumer)s), '0'::xid8
        )
    order by xact_id
    limit %(most)s
),
open_deliveries as (
    select state from alerting.webhook_deliveries where state in ('pending', 'retry')
    union all
    select state from alerting.webhook_deliveries where state = 'in_flight'
    union all
    select state from alerting.webhook_deliveries where state = 'parked'
),
ended_deliveries as (
    select state from alerting.webhook_deliveries
    where created_at > clock_timestamp() - interval '24 hours' and state in ('delivered', 'failed', 'cancelled')
),
deliveries as (
    select state, count(*) as deliveries from (table open_deliveries union all table ended_deliveries) as both_kinds
    group by state
)
select
    count(*) as batches,
    coalesce(extract(epoch from clock_timestamp() - min(received_at)), 0)::double precision as age_seconds,
    (select coalesce(jsonb_object_agg(state, deliveries), '{}') from deliveries) as deliveries,
    (select count(*) from alerting.webhooks where status = 'active' and breaker <> 'closed') as held_back,
    (select beat_at from alerting.heartbeats where worker = 'dispatcher') as dispatcher_seen_at,
    (select beat_at from alerting.heartbeats where worker = 'webhook_deliveries') as sweeper_seen_at
from backlog
"""


@dataclass(frozen=True)
class Backlog:
    """What waits.

    Attributes:
        batches: landed batches of evaluations not yet judged for alerts; counted up to 10,000.
        age_seconds: age of the oldest of them, 0 if there is none.
        deliveries: by state, those that are open and those of the last 24 hours.
        held_back: active endpoints whose breaker is not closed: their deliveries are parked.
        dispatcher_seen_at: when a dispatcher was last at work; None if none ever was.
        sweeper_seen_at: when a drain last began, of the sensor or of the command line.
    """

    batches: int
    age_seconds: float
    deliveries: Mapping[str, int]
    held_back: int
    dispatcher_seen_at: datetime | None
    sweeper_seen_at: datetime | None


def read_backlog(connection: Connection) -> Backlog:
    """Ask the database."""
    with connection.cursor(row_factory=class_row(Backlog)) as cursor:
        row = cursor.execute(_READ, {"consumer": CONSUMER, "most": MOST_COUNTED}).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without groups has a row
    return row
