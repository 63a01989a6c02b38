"""What has landed since a horizon: followed by transaction, so that a batch that commits late is not skipped.

A horizon is a transaction number below which every transaction had ended when it was taken (DESIGN invariant 6).
"""

from dataclasses import dataclass
from datetime import date

from storage.database import Connection

_ARRIVALS = """
with snapshot as (
    select pg_snapshot_xmin(pg_current_snapshot()) as xmin
),
landed as (
    select batch_id, accepted, touched_days
    from raw.ingest_batches, snapshot
    -- A horizon from the future is another server's: after a restore elsewhere, all is looked at again.
    where
        accepted > 0
        and xact_id < snapshot.xmin
        and (xact_id >= %(horizon)s::text::xid8 or snapshot.xmin < %(horizon)s::text::xid8)
)
select
    (select xmin::text::bigint from snapshot) as horizon,
    (select count(*) from landed) as batches,
    (select coalesce(sum(accepted), 0)::bigint from landed) as accepted,
    (select array_agg(distinct day order by day) from landed cross join unnest(touched_days) as day) as days
"""


@dataclass(frozen=True)
class Arrivals:
    """The batches that landed between two horizons.

    Attributes:
        horizon: where the next look begins.
        batches: how many batches brought something new.
        accepted: how many records were new in them.
        days: the UTC days whose numbers they change, in order; empty for feedback that waits for its evaluation.
    """

    horizon: int
    batches: int
    accepted: int
    days: tuple[date, ...]


def arrivals_since(connection: Connection, horizon: int) -> Arrivals:
    """Look at what has landed from `horizon` on (0: from the beginning)."""
    row = connection.execute(_ARRIVALS, {"horizon": horizon}).fetchone()
    assert row is not None  # noqa: S101 - a select without a from clause has a row
    return Arrivals(horizon=row[0], batches=row[1], accepted=row[2], days=tuple(row[3] or ()))
