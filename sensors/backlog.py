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

# Both branches of the deliveries have an index of their own, so that history costs nothing.
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
deliveries as (
    select state, count(*) as deliveries from alerting.webhook_deliveries
    where state in ('pending', 'retry', 'in_flight') or created_at > clock_timestamp() - interval '24 hours'
    group by state
)
select
    count(*) as batches,
    coalesce(extract(epoch from clock_timestamp() - min(received_at)), 0)::double precision as age_seconds,
    (select coalesce(jsonb_object_agg(state, deliveries), '{}') from deliveries) as deliveries,
    (select beat_at from alerting.heartbeats where worker = 'webhook_deliveries') as deliverer_seen_at
from backlog
"""


@dataclass(frozen=True)
class Backlog:
    """What waits.

    Attributes:
        batches: landed batches of evaluations not yet judged for alerts; counted up to 10,000.
        age_seconds: age of the oldest of them, 0 if there is none.
        deliveries: by state, those that are open and those of the last 24 hours.
        deliverer_seen_at: when the outbox was last looked into, by whatever process.
    """

    batches: int
    age_seconds: float
    deliveries: Mapping[str, int]
    deliverer_seen_at: datetime | None


def read_backlog(connection: Connection) -> Backlog:
    """Ask the database."""
    with connection.cursor(row_factory=class_row(Backlog)) as cursor:
        row = cursor.execute(_READ, {"consumer": CONSUMER, "most": MOST_COUNTED}).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without groups has a row
    return row
