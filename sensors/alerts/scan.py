"""The scan: what is new since the last one becomes alerts, events and deliveries, in one transaction.

Belongs here: following landed batches, and the transaction that holds position, alerts, events and deliveries
together (DESIGN invariants 5 and 6). Does not belong here: rules (`observations`), states (`states`), sending
(`sensors.webhooks`).
"""

from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from uuid import UUID

from sensors.alerts import findings, missing_batches, observations, rejected_records, silence, store, window_rows
from sensors.alerts.judging import judge_here, with_contributors
from sensors.alerts.notifications import notify
from sensors.alerts.restored import begin_anew
from sensors.alerts.states import Transition
from storage.database import Connection

MAX_BATCHES = 1_000
MAX_RECORDS = 100_000

_HORIZON = "select pg_snapshot_xmin(pg_current_snapshot())::text"

# With ties: batches of one transaction are taken together, since the position only knows transactions.
_BATCHES = """
select xact_id::text, batch_id, accepted
from raw.ingest_batches
where xact_id >= %(position)s::text::xid8 and xact_id < %(horizon)s::text::xid8 and kind = 'evaluations'
order by xact_id
fetch first %(limit)s rows with ties
"""

_HELD_BACK = "select count(*) from raw.ingest_batches where xact_id >= %(horizon)s::text::xid8"


@dataclass(frozen=True)
class ScanResult:
    """What one scan did.

    Attributes:
        batches: landed batches read.
        observations: values judged; healthy ones of subjects without an alert are none.
        transitions: alerts that began to fire, were resolved, or whose telling late data has undone, in order.
        events, deliveries: rows added to the outbox.
        more: batches are waiting for another scan.
        held_back: batches that are committed but wait for an older transaction that is still open.
    """

    batches: int
    observations: int
    transitions: tuple[Transition, ...]
    events: int
    deliveries: int
    more: bool
    held_back: int

    @property
    def firing(self) -> int:
        """How many alerts began to fire."""
        return sum(transition.status == "firing" for transition in self.transitions)

    @property
    def resolved(self) -> int:
        """How many alerts were resolved."""
        return sum(transition.status == "resolved" for transition in self.transitions)

    @property
    def restated(self) -> int:
        """How many alerts late data has amended or retracted."""
        return sum(transition.status in ("amended", "retracted") for transition in self.transitions)


@dataclass(frozen=True)
class _Reach:
    batch_ids: tuple[UUID, ...]
    position: int
    more: bool
    held_back: int


def scan(
    connection: Connection, now: datetime, *, max_batches: int = MAX_BATCHES, max_records: int = MAX_RECORDS
) -> ScanResult:
    """Judge what has landed since the last scan, and the newest findings; safe to run any number of at once.

    Args:
        connection: in UTC; outside a transaction the scan commits by itself, inside one it is part of it.
        now: the time, aware; data older than a rule's maximum age changes nothing.
        max_batches: where to stop; the result's `more` says that something is left. One transaction's batches are
            never split.
        max_records: the same, by accepted records.
    """
    with connection.transaction():
        position = store.lock_position(connection)
        reach = _reach(connection, position, max_batches, max_records)
        silence.follow(connection, reach.batch_ids, store.last_read_at(connection), now)
        seen = chain(
            observations.of_batches(connection, reach.batch_ids, now),
            window_rows.of_batches(connection, reach.batch_ids, now),
            rejected_records.of_receipts(connection, reach.batch_ids, now),
            findings.of_assets(connection, now),
            missing_batches.of_manifests(connection, now),
            # While batches wait to be read, who sent them only seems silent.
            () if reach.more or reach.held_back else silence.of_senders(connection, now),
        )
        judged = list(seen)
        newest = store.newest_alerts(connection, {seen.subject for seen in judged})
        changed, transitions = judge_here(connection, newest, judged)
        ids = store.save_alerts(connection, with_contributors(connection, changed, transitions))
        changes = [(change, ids[change.alert.subject, change.alert.epoch]) for change in transitions]
        published = notify(connection, changes, now, (position, reach.position))
        store.move_position(connection, reach.position, now)
    return ScanResult(
        batches=len(reach.batch_ids),
        observations=len(judged),
        transitions=tuple(transitions),
        events=published.events,
        deliveries=published.deliveries,
        more=reach.more,
        held_back=reach.held_back,
    )


def _reach(connection: Connection, position: int, max_batches: int, max_records: int) -> _Reach:
    # Whatever has a number below the oldest running transaction is committed or gone; asked for in a statement of its
    # own, before the batches are read, so that all of them are visible to the reading.
    horizon = int(_one(connection, _HORIZON, {}))
    if position > horizon:
        position = begin_anew(connection, position, horizon, store.last_read_at(connection))
    limits = {"position": str(position), "horizon": str(horizon), "limit": max_batches}
    found = sorted((int(xact), batch, size) for xact, batch, size in connection.execute(_BATCHES, limits))
    taken: list[UUID] = []
    records, last = 0, None
    for xact_id, batch_id, size in found:
        if xact_id != last and records >= max_records:
            break
        taken.append(batch_id)
        records, last = records + size, xact_id
    more = len(taken) < len(found) or len(found) >= max_batches
    return _Reach(
        batch_ids=tuple(taken),
        position=last + 1 if more and last is not None else max(position, horizon),
        more=more,
        held_back=int(_one(connection, _HELD_BACK, {"horizon": str(horizon)})),
    )


def _one(connection: Connection, query: str, parameters: dict[str, str]) -> str:
    row = connection.execute(query, parameters).fetchone()
    return str(row[0]) if row else "0"
