"""What rules would have told: the last days judged again by the rules as they stand in this transaction, into no table.

The data is what scans judge, read by the same queries and judged by the same `advance`. What it begins with is known
exactly: the log of transitions says between which positions the scan read that saw each, so the replay begins at a
position that no such scan straddles and at which no alert was open, or, where one has been open for too long, says so.

Not replayed is what no longer stands as it was: what the clock alone tells (silent senders: their rhythm has been
learned anew since), and findings of which only the last build is kept (missing batches, predicted crossings). Days of
forecasts and of features are as they were computed last; silences as they are stored now, and how they kept something
back is told beside it: grouping, repeats and inhibitions change when something is told, not what, and are not replayed.

Does not belong here: what is done with two replays (`dry_run`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import NamedTuple
from uuid import UUID

from sensors.alerts import findings, observations, rejected_records, store, window_rows
from sensors.alerts.judging import judge_here
from sensors.alerts.scan import MAX_BATCHES, MAX_RECORDS
from sensors.alerts.silenced import Silences
from sensors.alerts.states import Alert, Observation, Subject
from sensors.alerts.windows import Late
from storage.database import Connection

BATCH_TYPES = ("drift_high", "reliability_low", "decision_review", "template_new", "records_rejected")
FINDING_TYPES = ("drift_anomaly", "feature_drift")
REPLAYED_TYPES = BATCH_TYPES + FINDING_TYPES
# Alerts that have been open for longer are not followed to where they began.
LONGEST_REACH = timedelta(days=30)
# What was pending then has fired or calmed down within it.
WARM_UP = timedelta(days=1)
_SPAN = timedelta(hours=1)

_FIRST_SINCE = """
select coalesce(
    (
        select min(xact_id::text::numeric) from raw.ingest_batches
        where
            kind = 'evaluations'
            and received_at >= %(since)s
            and (%(tenant_id)s::text is null or tenant_id = %(tenant_id)s)
    ),
    %(position)s::numeric
)::text
"""

_STRADDLED = """
select min(read_from::text::numeric)::text from alerting.notifications
where
    (%(tenant_id)s::text is null or tenant_id = %(tenant_id)s)
    and number = 0
    and read_from < %(start)s::text::xid8
    and read_to > %(start)s::text::xid8
"""

# Of each alert that was open at a position: from where the scan read that saw it fire, and the first batch it read.
_OPEN = """
select firing.alert_id, firing.read_from::text, batches.xact_id::text
from alerting.notifications as firing
left join lateral (
    select xact_id from raw.ingest_batches
    where kind = 'evaluations' and xact_id >= firing.read_from
    order by xact_id
    limit 1
) as batches on true
where
    (%(tenant_id)s::text is null or firing.tenant_id = %(tenant_id)s)
    and firing.transition = 'firing'
    and firing.number = 0
    and firing.read_to <= %(start)s::text::xid8
    and not exists (
        select 1 from alerting.alerts
        where alerts.alert_id = firing.alert_id and alerts.event_type = 'template_new'
    )
    and not exists (
        select 1 from alerting.notifications as over
        where
            over.alert_id = firing.alert_id
            and over.transition in ('resolved', 'retracted')
            and over.read_to <= %(start)s::text::xid8
    )
"""

_BEFORE = """
select alert_id from alerting.notifications
where
    (%(tenant_id)s::text is null or tenant_id = %(tenant_id)s)
    and transition = 'firing'
    and number = 0
    and read_to <= %(start)s::text::xid8
"""

_SET_ASIDE = """
update alerting.alerts set status = 'resolved', epoch = -epoch, is_retracted = true
where %(tenant_id)s::text is null or tenant_id = %(tenant_id)s
"""

_FORGET_WINDOWS = "delete from alerting.windows where %(tenant_id)s::text is null or tenant_id = %(tenant_id)s"

_BATCHES = """
select batches.xact_id::text, batches.batch_id, batches.received_at, batches.accepted, held.records, held.oldest
from raw.ingest_batches as batches
cross join lateral (
    select count(*) as records, min(evaluations.created_at) as oldest from raw.evaluations
    where evaluations.batch_id = batches.batch_id
) as held
where
    batches.kind = 'evaluations'
    and (%(tenant_id)s::text is null or batches.tenant_id = %(tenant_id)s)
    and batches.xact_id >= %(start)s::text::xid8
    and batches.xact_id < %(position)s::text::xid8
"""

# Of rules with a window: whether they begin with evaluations that are there no more, which landed before the start.
# The longest reach of a window as `window_rows` makes it anew, by the oldest batch that is judged again.
_CUT_SHORT = """
select distinct rules.event_type
from alerting.thresholds as rules
where
    rules.enabled
    and num_nonnulls(rules.window_n, rules.window_span) > 0
    and (rules.tenant_id is null or %(tenant_id)s::text is null or rules.tenant_id = %(tenant_id)s)
    and exists (
        select from raw.ingest_batches as batches
        cross join unnest(batches.touched_days) as touched (day)
        where
            batches.kind = 'evaluations'
            and batches.tenant_id = coalesce(%(tenant_id)s, rules.tenant_id, batches.tenant_id)
            and batches.xact_id < %(start)s::text::xid8
            and touched.day < raw.dropped_before()
            and touched.day
            >= (%(oldest)s::timestamptz - rules.max_age - coalesce(rules.window_span, rules.max_age))::date
    )
"""

_SHORTEST_AGE = "select min(max_age) from alerting.thresholds where enabled"


class Happening(NamedTuple):
    """One transition, by what makes it this and no other."""

    subject: Subject
    epoch: int
    transition: str
    window_start: datetime
    window_end: datetime


@dataclass(frozen=True)
class Start:
    """Where a replay begins.

    Attributes:
        position: the first transaction that is judged again.
        open_alerts: alerts that were open there, so that their state is not known.
    """

    position: int
    open_alerts: frozenset[UUID]


@dataclass(frozen=True)
class Replay:
    """What was told, oldest first.

    Attributes:
        happenings: transitions, silenced ones too.
        missing_records: how many evaluations of the batches are there no more.
        cut_short: event types whose rules have windows that begin with evaluations that are there no more.
        silenced: those of the firings that a silence would have kept back; of a finding, on its own day.
    """

    happenings: tuple[Happening, ...]
    missing_records: int
    cut_short: frozenset[str]
    silenced: frozenset[Happening]


def find_start(connection: Connection, tenant_id: str | None, since: datetime, position: int) -> Start:
    """The newest position before `since` from which on everything can be judged again.

    Args:
        connection: in a transaction that holds the position.
        tenant_id: whose data; None for everybody's.
        since: aware.
        position: the scan's own.
    """
    reach = _first_since(connection, tenant_id, since - LONGEST_REACH, position)
    start = _whole(connection, tenant_id, _first_since(connection, tenant_id, since - WARM_UP, position))
    while True:
        values = {"tenant_id": tenant_id, "start": str(start)}
        found = connection.execute(_OPEN, values).fetchall()
        earlier = [
            int(read_from)
            for _, read_from, first_batch in found
            if first_batch is not None and int(first_batch) >= reach and int(read_from) < start
        ]
        if not earlier:
            return Start(start, frozenset(alert_id for alert_id, *_ in found))
        start = _whole(connection, tenant_id, min(earlier))


def replay(connection: Connection, tenant_id: str | None, start: Start, position: int, now: datetime) -> Replay:
    """Judge everything between the start and the position, and findings until now.

    Args:
        connection: in UTC, in a transaction that holds the position and will be rolled back.
        tenant_id: whose data; None for everybody's.
        start: from `find_start`.
        position: the scan's own.
        now: the time, aware.
    """
    batches = _read_batches(connection, tenant_id, start, position)
    newest = _set_back(connection, tenant_id, start)
    silences = Silences(connection, tenant_id)
    happenings: list[Happening] = []
    silenced: set[Happening] = set()

    def judge_at(seen: Sequence[Observation | Late], at: datetime) -> None:
        told = _judge(connection, newest, seen)
        happenings.extend(happening for happening, _ in told)
        silenced.update(
            happening for happening, alert in told if happening.transition == "firing" and silences.keep_back(alert, at)
        )

    for chunk in _chunks(connection, batches):
        batch_ids, judged_at = [batch.batch_id for batch in chunk], chunk[-1].received_at
        seen = chain(
            observations.of_batches(connection, batch_ids, judged_at),
            window_rows.of_batches(connection, batch_ids, judged_at),
            rejected_records.of_receipts(connection, batch_ids, judged_at),
        )
        judge_at(_wanted(seen, tenant_id, BATCH_TYPES), judged_at)
    day = min((batch.received_at for batch in batches), default=now)
    while day <= now:
        judge_at(_wanted(_findings(connection, day), tenant_id, FINDING_TYPES), day)
        # Once a day, so that none is judged before the one that came before it; the last time now.
        day = now if day < now < day + timedelta(days=1) else day + timedelta(days=1)
    missing = sum(max(batch.accepted - batch.records, 0) for batch in batches)
    return Replay(tuple(happenings), missing, _cut_short(connection, tenant_id, start, batches), frozenset(silenced))


@dataclass(frozen=True)
class _Batch:
    xact_id: int
    batch_id: UUID
    received_at: datetime
    accepted: int
    records: int
    oldest: datetime | None


def _first_since(connection: Connection, tenant_id: str | None, since: datetime, position: int) -> int:
    values = {"tenant_id": tenant_id, "since": since, "position": position}
    row = connection.execute(_FIRST_SINCE, values).fetchone()
    return min(int(row[0]) if row else position, position)


def _whole(connection: Connection, tenant_id: str | None, start: int) -> int:
    while True:
        row = connection.execute(_STRADDLED, {"tenant_id": tenant_id, "start": str(start)}).fetchone()
        if row is None or row[0] is None:
            return start
        start = int(row[0])


def _set_back(connection: Connection, tenant_id: str | None, start: Start) -> dict[Subject, Alert]:
    values = {"tenant_id": tenant_id, "start": str(start.position)}
    ids = [row[0] for row in connection.execute(_BEFORE, values)]
    newest: dict[Subject, Alert] = {}
    for alert in sorted(store.alerts_by_ids(connection, ids).values(), key=lambda alert: alert.epoch):
        newest[alert.subject] = alert
    # Out of the way of what opens now: the reading asks the table whose alert is open.
    connection.execute(_SET_ASIDE, values)
    # Made anew as they were there, from what had landed.
    connection.execute(_FORGET_WINDOWS, values)
    store.save_alerts(connection, [alert for alert in newest.values() if alert.alert_id in start.open_alerts])
    return newest


def _read_batches(connection: Connection, tenant_id: str | None, start: Start, position: int) -> list[_Batch]:
    values = {"tenant_id": tenant_id, "start": str(start.position), "position": str(position)}
    rows = connection.execute(_BATCHES, values).fetchall()
    return sorted(
        (_Batch(int(xact_id), *rest) for xact_id, *rest in rows), key=lambda batch: (batch.xact_id, batch.batch_id)
    )


def _cut_short(
    connection: Connection, tenant_id: str | None, start: Start, batches: Sequence[_Batch]
) -> frozenset[str]:
    if not batches:
        return frozenset()
    oldest = min(batch.received_at for batch in batches)
    values = {"tenant_id": tenant_id, "start": str(start.position), "oldest": oldest}
    return frozenset(row[0] for row in connection.execute(_CUT_SHORT, values))


def _chunks(connection: Connection, batches: Sequence[_Batch]) -> Iterator[list[_Batch]]:
    row = connection.execute(_SHORTEST_AGE).fetchone()
    shortest: timedelta = (row and row[0]) or timedelta.max
    chunk: list[_Batch] = []
    records = 0
    for batch in batches:
        # Where data is nearly too old for a rule, it matters when it was judged: at once.
        is_old = batch.oldest is not None and batch.received_at - batch.oldest > shortest - 2 * _SPAN
        is_full = len(chunk) >= MAX_BATCHES or records >= MAX_RECORDS
        if chunk and (is_old or is_full or batch.received_at > chunk[0].received_at + _SPAN):
            yield chunk
            chunk, records = [], 0
        chunk.append(batch)
        records += batch.accepted
        if is_old:
            yield chunk
            chunk, records = [], 0
    if chunk:
        yield chunk


def _findings(connection: Connection, now: datetime) -> Iterator[Observation]:
    return (seen for seen in findings.of_assets(connection, now) if seen.starts <= now)


def _wanted(
    seen: Iterable[Observation | Late], tenant_id: str | None, types: Sequence[str]
) -> list[Observation | Late]:
    return [
        one
        for one in seen
        if one.subject.event_type in types and (tenant_id is None or one.subject.tenant_id == tenant_id)
    ]


def _judge(
    connection: Connection, newest: dict[Subject, Alert], seen: Sequence[Observation | Late]
) -> list[tuple[Happening, Alert]]:
    changed, transitions = judge_here(connection, newest, seen)
    ids = store.save_alerts(connection, list(changed.values()))
    for (subject, epoch), alert in changed.items():
        if newest[subject] is alert:
            newest[subject] = replace(alert, alert_id=ids[subject, epoch])
    return [
        (Happening(one.alert.subject, one.alert.epoch, one.status, *one.data[:2]), one.alert) for one in transitions
    ]
