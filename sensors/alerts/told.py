"""What has been told: rows of notifications, suppressions and groups, and all that decides for a tenant.

Belongs here: their SQL. Does not belong here: the decisions (`policy`) and their order (`notifications`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from sensors.alerts.drafts import draft_row, read_draft
from sensors.alerts.inhibitions import read_inhibitions
from sensors.alerts.matchers import read_matchers
from sensors.alerts.policies import read_policies
from sensors.alerts.policy import Muted, Silence, State, Tenant
from sensors.alerts.states import Subject
from sensors.outbox import EventDraft
from storage.database import Connection

_SILENCES = """
select tenant_id, silence_id, matchers, starts_at, ends_at from alerting.silences
where tenant_id = any(%(tenants)s) and starts_at <= %(now)s and ends_at > %(now)s
order by starts_at, silence_id
"""

_FIRING = """
select tenant_id, alert_id, event_type, severity, template, extractor_vendor, extractor_model from alerting.alerts
where tenant_id = any(%(tenants)s) and status = 'firing'
order by started_at, alert_id
"""

_STATES = "select alert_id, transition, number, state from alerting.notifications where alert_id = any(%(alert_ids)s)"

# What a silence keeps back it still keeps back until it ends: of an alert's labels the severity alone may change. So a
# tenant who silences much doesn't make every scan dear.
_WAITING = """
select
    notifications.*, notifications.read_from::text, notifications.read_to::text, alerts.event_type, alerts.metric,
    alerts.template, alerts.extractor_vendor, alerts.extractor_model, alerts.severity,
    alerts.status = 'firing' as is_firing
from alerting.notifications
inner join alerting.alerts using (alert_id)
where
    notifications.state = %(state)s
    and not exists (
        select 1
        from alerting.suppressions
        inner join alerting.silences on suppressions.by_id = silences.silence_id
        where
            suppressions.alert_id = notifications.alert_id
            and suppressions.transition = notifications.transition
            and suppressions.number = notifications.number
            and suppressions.reason = 'silence'
            and notifications.state = 'held'
            and silences.ends_at > %(now)s
            and not silences.matchers @> '[{"name": "severity"}]'
    )
    and (%(group_key)s::jsonb is null or (notifications.tenant_id, group_key) = (%(tenant_id)s, %(group_key)s::jsonb))
order by
    notifications.seen_at, notifications.alert_id, notifications.transition <> 'firing', notifications.transition,
    notifications.number
"""

_SUPPRESSED = """
select alert_id, transition, number, reason, by_id from alerting.suppressions where alert_id = any(%(alert_ids)s)
"""

# Of tenants that have a window alone: of all others there is nothing to look up. A subject has one alert after another,
# so the newest that was told was told last: however often it flaps, none from before that is read.
_TOLD_BEFORE = """
with mine as materialized (
    select alerts.*
    from alerting.alerts
    inner join alerting.notification_policies as policies using (tenant_id)
    where alerts.alert_id = any(%(alert_ids)s) and policies.suppression_window is not null
)

select mine.alert_id, told.at
from mine
cross join lateral (
    select notifications.told_at as at
    from alerting.alerts as before
    inner join alerting.notifications using (alert_id)
    where
        (before.tenant_id, before.event_type, before.metric, before.template)
        = (mine.tenant_id, mine.event_type, mine.metric, mine.template)
        and (before.extractor_vendor, before.extractor_model) = (mine.extractor_vendor, mine.extractor_model)
        and before.epoch < mine.epoch
        and notifications.transition = 'firing'
        and notifications.number = 0
        and notifications.state = 'told'
    order by before.epoch desc
    limit 1
) as told
"""

_REPEATS = """
select alerts.alert_id, told.number + 1 as number
from alerting.notification_policies as policies
inner join alerting.alerts using (tenant_id)
inner join lateral (
    select max(notifications.number) as number, max(notifications.told_at) as told_at
    from alerting.notifications
    where notifications.alert_id = alerts.alert_id and notifications.transition = 'firing'
    having bool_and(notifications.state = 'told')
) as told on true
where
    policies.repeat_interval is not null
    and alerts.status = 'firing'
    and alerts.acked_at is null
    and told.told_at <= %(now)s - policies.repeat_interval
order by alerts.started_at, alerts.alert_id
"""

# By what keeps each back since last; both kinds have an index of their own, so that what was told costs nothing.
_KEPT_BACK = """
select waiting.why, count(*)
from (
    select last.reason as why
    from alerting.notifications
    cross join lateral (
        select suppressions.reason from alerting.suppressions
        where
            (suppressions.alert_id, suppressions.transition, suppressions.number)
            = (notifications.alert_id, notifications.transition, notifications.number)
        order by suppressions.suppression_id desc
        limit 1
    ) as last
    where notifications.state = 'held'
    union all
    select 'group' as why from alerting.notifications where notifications.state = 'grouped'
) as waiting
group by waiting.why
"""

_GROUPS = """
select notifications.tenant_id, notifications.group_key, min(notifications.seen_at), groups.flushed_at
from alerting.notifications
left join alerting.notification_groups as groups using (tenant_id, group_key)
where notifications.group_key is not null and notifications.state = 'grouped'
group by notifications.tenant_id, notifications.group_key, groups.flushed_at
order by min(notifications.seen_at), notifications.tenant_id
"""

_SAVE = """
insert into alerting.notifications (
    alert_id, transition, number, tenant_id, state, seen_at, read_from, read_to, told_at, window_start, window_end,
    by_hand, group_key, draft
) values (
    %(alert_id)s, %(transition)s, %(number)s, %(tenant_id)s, %(state)s, %(seen_at)s, %(read_from)s::text::xid8,
    %(read_to)s::text::xid8, %(told_at)s, %(window_start)s, %(window_end)s, %(by_hand)s, %(group_key)s, %(draft)s
)
on conflict (alert_id, transition, number) do update set
    state = excluded.state, told_at = excluded.told_at, group_key = excluded.group_key, draft = excluded.draft
"""

_DROP = """
update alerting.notifications set state = 'dropped', draft = null
where alert_id = any(%(alert_ids)s) and transition = 'firing' and state in ('held', 'grouped')
"""

_SUPPRESS = """
insert into alerting.suppressions (tenant_id, alert_id, transition, number, reason, by_id, suppressed_at)
values (%(tenant_id)s, %(alert_id)s, %(transition)s, %(number)s, %(reason)s, %(by_id)s, %(now)s)
on conflict do nothing
"""

_FLUSHED = """
insert into alerting.notification_groups (tenant_id, group_key, flushed_at) values (%(tenant_id)s, %(key)s, %(now)s)
on conflict (tenant_id, group_key) do update set flushed_at = excluded.flushed_at
"""

# As Alertmanager does: a group of which nothing fires any more is forgotten, and the next begins with its wait.
_FORGET = """
delete from alerting.notification_groups as groups
where
    groups.tenant_id = %(tenant_id)s
    and groups.group_key = %(key)s
    and not exists (
        select 1
        from alerting.notifications
        inner join alerting.alerts using (alert_id)
        where
            notifications.tenant_id = groups.tenant_id
            and notifications.group_key = groups.group_key
            and alerts.status = 'firing'
    )
"""


@dataclass(frozen=True)
class Notification:
    """One transition on its way to being told; `state` None: it is new.

    Attributes:
        number: of firing the how-many-th repeat, of amended and retracted how many came before.
        is_firing: whether the alert still fires.
        draft: what would be told.
        read: the positions between which the scan read that saw it.
    """

    alert_id: UUID
    transition: str
    number: int
    subject: Subject
    severity: str
    is_firing: bool
    draft: EventDraft
    seen_at: datetime
    window_start: datetime
    window_end: datetime
    read: tuple[int, int]
    by_hand: bool = False
    state: State | None = None

    @property
    def labels(self) -> dict[str, str]:
        """What matchers see."""
        names = ("event_type", "template", "extractor_vendor", "extractor_model")
        return {name: getattr(self.subject, name) for name in names} | {"severity": self.severity}

    @property
    def key(self) -> tuple[UUID, str, int]:
        """Its row's key."""
        return self.alert_id, self.transition, self.number


@dataclass(frozen=True)
class Outcome:
    """What became of a notification, and by what it was kept back."""

    notification: Notification
    state: State
    draft: EventDraft
    group_key: Mapping[str, str] | None = None


def read_tenants(connection: Connection, tenant_ids: Iterable[str], now: datetime) -> dict[str, Tenant]:
    """All that decides for these tenants now."""
    names = sorted(set(tenant_ids))
    policies = read_policies(connection, names)
    inhibitions = read_inhibitions(connection, names)
    values = {"tenants": names, "now": now}
    silences: dict[str, list[Silence]] = {name: [] for name in names}
    for tenant_id, silence_id, matchers, starts_at, ends_at in connection.execute(_SILENCES, values):
        silences[tenant_id].append(Silence(silence_id, read_matchers(matchers), starts_at, ends_at))
    firing: dict[str, dict[UUID, dict[str, str]]] = {name: {} for name in names}
    if inhibitions:
        with connection.cursor(row_factory=dict_row) as cursor:
            for row in cursor.execute(_FIRING, {"tenants": list(inhibitions)}):
                firing[row.pop("tenant_id")][row.pop("alert_id")] = row
    return {
        name: Tenant(policies[name], silences[name], [rule for _, rule in inhibitions.get(name, [])], firing[name])
        for name in names
    }


def states(connection: Connection, alert_ids: Iterable[UUID]) -> dict[tuple[UUID, str, int], State]:
    """What became of every transition of these alerts."""
    rows = connection.execute(_STATES, {"alert_ids": list(alert_ids)})
    return {(alert_id, transition, number): state for alert_id, transition, number, state in rows}


def waiting(
    connection: Connection,
    state: State,
    now: datetime,
    tenant_id: str | None = None,
    key: Mapping[str, str] | None = None,
) -> list[Notification]:
    """What is held of all tenants, but for what a silence still keeps back, or grouped of one group, oldest first."""
    values = {
        "state": state,
        "now": now,
        "tenant_id": tenant_id,
        "group_key": None if key is None else Jsonb(dict(key)),
    }
    with connection.cursor(row_factory=dict_row) as cursor:
        return [_notification(row) for row in cursor.execute(_WAITING, values)]


def suppressed(connection: Connection, alert_ids: Iterable[UUID]) -> set[tuple[UUID, str, int, Muted]]:
    """What kept transitions of these alerts back so far."""
    rows = connection.execute(_SUPPRESSED, {"alert_ids": list(alert_ids)})
    return {
        (alert_id, transition, number, Muted(reason, by_id)) for alert_id, transition, number, reason, by_id in rows
    }


def told_before(connection: Connection, alert_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """When the same subject's earlier firings were told last, for those that were."""
    return dict(connection.execute(_TOLD_BEFORE, {"alert_ids": list(alert_ids)}).fetchall()) if alert_ids else {}


def due_repeats(connection: Connection, now: datetime) -> list[tuple[UUID, int]]:
    """Alerts to be told again, and their repeat's number."""
    return [(alert_id, number) for alert_id, number in connection.execute(_REPEATS, {"now": now})]


def waiting_groups(
    connection: Connection,
) -> list[tuple[str, Mapping[str, str], datetime, datetime | None]]:
    """Groups in which something waits: tenant, key, since when, and when the group was told last."""
    return connection.execute(_GROUPS).fetchall()


def kept_back(connection: Connection) -> dict[str, int]:
    """How many notifications wait, of all tenants, by what for: `silence`, `inhibition`, `window` or `group`."""
    return dict(connection.execute(_KEPT_BACK).fetchall())


def save(connection: Connection, outcomes: Sequence[Outcome], now: datetime) -> None:
    """Write what became of notifications."""
    with connection.cursor() as cursor:
        cursor.executemany(_SAVE, [_row(outcome, now) for outcome in outcomes])


def drop_firings(connection: Connection, alert_ids: Iterable[UUID]) -> None:
    """Forget the firing, not told yet, of alerts that are over."""
    ids = list(alert_ids)
    if ids:
        connection.execute(_DROP, {"alert_ids": ids})


def suppress(connection: Connection, kept_back: Sequence[tuple[Notification, Muted]], now: datetime) -> None:
    """Note what kept notifications back, once a cause."""
    rows = [
        {
            "tenant_id": notification.subject.tenant_id,
            "alert_id": notification.alert_id,
            "transition": notification.transition,
            "number": notification.number,
            "reason": cause.reason,
            "by_id": cause.by,
            "now": now,
        }
        for notification, cause in kept_back
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_SUPPRESS, rows)


def flushed(connection: Connection, tenant_id: str, key: Mapping[str, str], now: datetime) -> None:
    """Note that a group was told now, or forget it where nothing of it fires any more."""
    values = {"tenant_id": tenant_id, "key": Jsonb(dict(key)), "now": now}
    connection.execute(_FLUSHED, values)
    connection.execute(_FORGET, values)


def _row(outcome: Outcome, now: datetime) -> dict[str, object]:
    one, waits = outcome.notification, outcome.state in ("held", "grouped")
    return {
        **vars(one),
        "tenant_id": one.subject.tenant_id,
        "read_from": str(one.read[0]),
        "read_to": str(one.read[1]),
        "state": outcome.state,
        "told_at": now if outcome.state == "told" else None,
        "group_key": None if outcome.group_key is None else Jsonb(dict(outcome.group_key)),
        "draft": draft_row(outcome.draft) if waits else None,
    }


def _notification(row: Mapping[str, Any]) -> Notification:
    names = ("alert_id", "transition", "number", "severity", "is_firing", "seen_at", "window_start", "window_end")
    return Notification(
        **{name: row[name] for name in names},
        subject=Subject(*(row[name] for name in Subject._fields)),
        draft=read_draft(row["draft"]),
        read=(int(row["read_from"]), int(row["read_to"])),
        by_hand=row["by_hand"],
        state=row["state"],
    )
