"""The scan: what is new since the last one becomes alerts, events and deliveries, in one transaction.

Belongs here: following landed batches, and the transaction that holds position, alerts, events and deliveries
together (DESIGN invariants 5 and 6). Does not belong here: rules (`observations`), states (`states`), sending
(`sensors.webhooks`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from uuid import UUID

from sensors.alerts import findings, missing_batches, observations, rejected_records, silence, store
from sensors.alerts.notifications import notify
from sensors.alerts.states import Alert, Observation, Subject, Transition, advance, restate
from sensors.outbox import Published
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
        observations: values judged; healthy ones of subjects without an alert never leave the database.
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
            rejected_records.of_receipts(connection, reach.batch_ids, now),
            findings.of_assets(connection, now),
            missing_batches.of_manifests(connection, now),
            # While batches wait to be read, who sent them only seems silent.
            () if reach.more or reach.held_back else silence.of_senders(connection, now),
        )
        judged = list(seen)
        transitions, published = _apply(connection, judged, now, (position, reach.position))
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


def _apply(
    connection: Connection, judged: list[Observation], now: datetime, read: tuple[int, int]
) -> tuple[list[Transition], Published]:
    newest = store.newest_alerts(connection, {seen.subject for seen in judged})
    changed, transitions = judge(newest, _told(connection, judged), judged)
    ids = store.save_alerts(connection, list(changed.values()))
    changes = [(change, ids[change.alert.subject, change.alert.epoch]) for change in transitions]
    return transitions, notify(connection, changes, now, read)


def _told(connection: Connection, judged: list[Observation]) -> dict[tuple[Subject, datetime, datetime], Alert]:
    read_anew = [seen for seen in judged if seen.source == "finding"]
    if not read_anew:
        return {}
    since = min(seen.ends for seen in read_anew)
    return store.told_alerts(connection, {seen.subject for seen in read_anew}, since)


def judge(
    newest: dict[Subject, Alert],
    told: Mapping[tuple[Subject, datetime, datetime], Alert],
    judged: Iterable[Observation],
) -> tuple[dict[tuple[Subject, int], Alert], list[Transition]]:
    """Lead alerts through observations; touches no table.

    Args:
        newest: each subject's newest alert; brought up to date.
        told: alerts by what was told of them, older ones too: late data may restate that.
        judged: in the order in which they count.

    Returns:
        The alerts that changed, as they are now, by subject and epoch, and what is to be told, in order.
    """
    changed: dict[tuple[Subject, int], Alert] = {}
    transitions = []
    for seen in judged:
        before = newest.get(seen.subject)
        earlier = told.get((seen.subject, seen.starts, seen.ends))
        if before is not None and earlier is not None and earlier.epoch < before.epoch:
            before = changed.get((seen.subject, earlier.epoch), earlier)
            after, transition = restate(before, seen)
        else:
            after, transition = advance(before, seen)
            if after is not None:
                newest[seen.subject] = after
        if after is not None and after is not before:
            changed[seen.subject, after.epoch] = after
        if transition is not None:
            transitions.append(transition)
    return changed, transitions


def _one(connection: Connection, query: str, parameters: dict[str, str]) -> str:
    row = connection.execute(query, parameters).fetchone()
    return str(row[0]) if row else "0"
