"""Rules on trial: what would have fired in the last days, beside what did; into no table.

The rules in force are replayed too. Where that gives the very log of what happened, the replay of other rules can be
believed; where it can't give it, this says for what and why. Scans wait while it lasts; landing doesn't.

Does not belong here: judging again (`replay`), what rules there are (`sensors.configuration`).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import dict_row

from sensors.alerts import store
from sensors.alerts.replay import (
    BATCH_TYPES,
    FINDING_TYPES,
    REPLAYED_TYPES,
    Happening,
    Replay,
    Start,
    find_start,
    replay,
)
from sensors.alerts.states import Subject
from storage.database import Connection

_LOG = """
select notifications.*, alerts.epoch, alerts.event_type, alerts.metric, alerts.template, alerts.extractor_vendor,
    alerts.extractor_model
from alerting.notifications
inner join alerting.alerts using (alert_id)
where
    (%(tenant_id)s::text is null or notifications.tenant_id = %(tenant_id)s)
    and not (notifications.transition = 'firing' and notifications.number > 0)
    and (notifications.read_to > %(start)s::text::xid8 or alerts.alert_id = any(%(open_alerts)s))
order by notifications.seen_at, notifications.alert_id, notifications.transition
"""

# A default's change is of no tenant, and concerns each.
_CHANGES = """
select action, subject, max(at) from access.audit_log
where
    (
        action like 'threshold.%%'
        or action in ('config.apply', 'tenant.tier', 'alert.rebaseline', 'alert.rebaseline_end')
    )
    and at >= %(since)s
    and (%(tenant_id)s::text is null or tenant_id is null or tenant_id = %(tenant_id)s)
group by action, subject
"""

# By type, of those of which no replay tells anything; the row's name and time are not the rule.
_RULES = """
select event_type, jsonb_agg(rule order by rule)
from (
    select event_type, to_jsonb(thresholds) - '{threshold_id, updated_at}'::text[] as rule from alerting.thresholds
    where event_type <> all(%(replayed)s)
) as rules
group by event_type
"""

_RESTATED = """
select max(computed_at) from ml.drift_forecasts where tenant_id = %(tenant_id)s and template = %(template)s
"""
_REBUILT = "select max(taken_at) from intermediate.marks where model = 'feature_drift'"
_NOT_REPLAYED = "the file changes its rules, but what they would have told is not known: it is not replayed"
_CUT_SHORT = "retention has dropped evaluations that its windows begin with"


class Excluded(NamedTuple):
    """What can't be compared with the log, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class DryRun:
    """Both replays of a window, and whether that of the rules in force is the log.

    Attributes:
        since, until: the window; aware.
        deployed, proposed: what is told in it, under either.
        equals_log: of everything that could be compared.
        compared: transitions in the log that could be.
        differences: what is only in the log, or only in the replay.
        not_compared: for what no statement is made.
        silenced: firings that a silence, as it is stored now, would have kept back under either.
    """

    since: datetime
    until: datetime
    deployed: Sequence[Happening]
    proposed: Sequence[Happening]
    equals_log: bool
    compared: int
    differences: Sequence[tuple[str, Happening]]
    not_compared: Sequence[Excluded]
    silenced: frozenset[Happening]

    def report(self) -> Mapping[str, object]:
        """As JSON: counts, what would have fired or not besides, and the comparison."""
        new, gone = _only(self.proposed, self.deployed), _only(self.deployed, self.proposed)
        return {
            "since": self.since,
            "until": self.until,
            "deployed": dict(Counter(one.transition for one in self.deployed)),
            "proposed": dict(Counter(one.transition for one in self.proposed)),
            "would_fire_besides": [_row(one) | {"silenced": one in self.silenced} for one in new],
            "would_not_fire": [_row(one) | {"silenced": one in self.silenced} for one in gone],
            "deployed_replay_equals_log": self.equals_log,
            "compared": self.compared,
            "differences": [{"only_in": where} | _row(one) for where, one in self.differences],
            "not_compared": [one._asdict() for one in self.not_compared],
        }


@dataclass
class _Log:
    happenings: list[Happening] = field(default_factory=list)
    last_seen: dict[Subject, datetime] = field(default_factory=dict)
    excluded: dict[Subject, str] = field(default_factory=dict)


def dry_run(
    connection: Connection, tenant_id: str | None, *, days: int, now: datetime, change: Callable[[], object]
) -> DryRun:
    """Replay the last days under the rules in force and under changed ones; leaves nothing behind.

    Args:
        connection: in UTC.
        tenant_id: whose rules change; None where it concerns everybody.
        days: how many.
        now: the time, aware.
        change: writes the changed rules, in the transaction that is rolled back.
    """
    since = now - timedelta(days=days)
    with connection.transaction(force_rollback=True):
        position = store.lock_position(connection)
        start = find_start(connection, tenant_id, since, position)
        log = _read_log(connection, tenant_id, start)
        with connection.transaction(force_rollback=True):
            deployed = replay(connection, tenant_id, start, position, now)
        rules = _rules_not_replayed(connection)
        with connection.transaction(force_rollback=True):
            change()
            changed = sorted(dict(rules.items() ^ _rules_not_replayed(connection).items()))
            proposed = replay(connection, tenant_id, start, position, now)
        types = _unsettled_types(connection, tenant_id, since - timedelta(days=1), deployed)
        differences, compared, excluded = _compare(connection, log, deployed, types)
        # Also of types of which nothing was told: with what is gone, something might have been.
        excluded += [Excluded(event_type, _NOT_REPLAYED) for event_type in changed]
        excluded += [Excluded(event_type, _CUT_SHORT) for event_type in sorted(deployed.cut_short | proposed.cut_short)]
    return DryRun(
        since=since,
        until=now,
        deployed=[one for one in deployed.happenings if one.window_end >= since],
        proposed=[one for one in proposed.happenings if one.window_end >= since],
        equals_log=not differences,
        compared=compared,
        differences=differences,
        not_compared=excluded,
        silenced=deployed.silenced | proposed.silenced,
    )


def _rules_not_replayed(connection: Connection) -> dict[str, str]:
    return {name: str(rules) for name, rules in connection.execute(_RULES, {"replayed": list(REPLAYED_TYPES)})}


def _read_log(connection: Connection, tenant_id: str | None, start: Start) -> _Log:
    log = _Log()
    values = {"tenant_id": tenant_id, "start": str(start.position), "open_alerts": list(start.open_alerts)}
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_LOG, values).fetchall()
        fired = {row["alert_id"] for row in rows if row["transition"] == "firing"}
        for row in rows:
            subject = Subject(*(row[name] for name in Subject._fields))
            log.last_seen[subject] = row["seen_at"]
            reason = _reason(row, start.open_alerts, fired)
            if reason:
                log.excluded.setdefault(subject, reason)
            log.happenings.append(
                Happening(subject, row["epoch"], row["transition"], row["window_start"], row["window_end"])
            )
    return log


def _reason(row: Mapping[str, object], open_alerts: frozenset[UUID], fired: set[UUID]) -> str | None:
    if row["event_type"] not in REPLAYED_TYPES:
        return "what it was judged by is not kept as it was: the clock, a rhythm learned anew, a later build"
    if row["by_hand"]:
        return "somebody resolved an alert by hand"
    if row["alert_id"] in open_alerts:
        return "an alert was open since before what can be replayed"
    if row["transition"] in ("amended", "retracted"):
        if row["event_type"] in FINDING_TYPES:
            return "late data has restated a finding"
        if row["alert_id"] not in fired:
            return "late data has restated what was told before what can be replayed"
    return None


def _unsettled_types(
    connection: Connection, tenant_id: str | None, since: datetime, deployed: Replay
) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if deployed.missing_records:
        dropped = f"retention has dropped {deployed.missing_records} evaluations"
        reasons |= dict.fromkeys(BATCH_TYPES, dropped)
    reasons |= dict.fromkeys(deployed.cut_short, _CUT_SHORT)
    for action, subject, at in connection.execute(_CHANGES, {"tenant_id": tenant_id, "since": since}):
        changed = (subject.split("/")[0],) if action.startswith("threshold.") else REPLAYED_TYPES
        reasons |= dict.fromkeys(changed, f"its rules were changed at {at:%Y-%m-%d %H:%M} UTC ({action})")
    return reasons


def _compare(
    connection: Connection, log: _Log, deployed: Replay, types: Mapping[str, str]
) -> tuple[list[tuple[str, Happening]], int, list[Excluded]]:
    for subject in {one.subject for one in (*log.happenings, *deployed.happenings)}:
        if subject.event_type in types:
            log.excluded[subject] = types[subject.event_type]
    told, replayed = (
        Counter(one for one in happenings if one.subject not in log.excluded)
        for happenings in (log.happenings, deployed.happenings)
    )
    differences = [("log", one) for one in told - replayed] + [("replay", one) for one in replayed - told]
    for subject in {one.subject for _, one in differences if one.subject.event_type in FINDING_TYPES}:
        if _was_restated(connection, subject, log.last_seen.get(subject)):
            log.excluded[subject] = "its days have been computed again since, and are kept as they are now"
    differences = [(where, one) for where, one in differences if one.subject not in log.excluded]
    compared = sum(count for one, count in told.items() if one.subject not in log.excluded)
    return differences, compared, sorted(Excluded(_name(subject), why) for subject, why in log.excluded.items())


def _was_restated(connection: Connection, subject: Subject, seen_at: datetime | None) -> bool:
    query = _REBUILT if subject.event_type == "feature_drift" else _RESTATED
    row = connection.execute(query, {"tenant_id": subject.tenant_id, "template": subject.template}).fetchone()
    return seen_at is None or (row is not None and row[0] is not None and row[0] > seen_at)


def _only(these: Sequence[Happening], those: Sequence[Happening]) -> list[Happening]:
    known = {(one.subject, one.window_start) for one in those if one.transition == "firing"}
    return [one for one in these if one.transition == "firing" and (one.subject, one.window_start) not in known]


def _name(subject: Subject) -> str:
    return "/".join(part for part in subject if part)


def _row(one: Happening) -> dict[str, object]:
    return {**one.subject._asdict(), **{name: getattr(one, name) for name in Happening._fields[1:]}}
