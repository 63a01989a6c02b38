"""From transitions to events: what is told now, what is kept back, what waits for its group or for its next repeat.

Belongs here: the order of decisions and writes, all in the transaction of whoever changed the alerts, so that after a
crash between any two statements either nothing has happened or everything has. Does not belong here: the rules
(`policy`) and the SQL (`told`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from sensors.alerts import store, told
from sensors.alerts.drafts import group_draft
from sensors.alerts.policies import read_policies
from sensors.alerts.policy import Muted, State, Tenant, decide, group_key, is_group_due
from sensors.alerts.states import Alert, Subject, Transition
from sensors.alerts.told import Notification, Outcome
from sensors.outbox import EventDraft, Published, publish
from storage.database import Connection


def notify(
    connection: Connection, changes: Sequence[tuple[Transition, UUID]], now: datetime, read: tuple[int, int]
) -> Published:
    """What a scan has to tell: its own transitions, and what time alone brings, also where nothing landed.

    Args:
        connection: inside the scan's transaction.
        changes: transitions and their alerts' identifiers, in the order in which they happened.
        now: the time, aware.
        read: the positions between which the scan has read.
    """
    return _sum(tell(connection, changes, now, read), due(connection, now))


def tell(
    connection: Connection,
    changes: Sequence[tuple[Transition, UUID]],
    now: datetime,
    read: tuple[int, int],
    *,
    by_hand: bool = False,
) -> Published:
    """Decide about new transitions, and publish what is to be told at once.

    Args:
        connection: inside the transaction that changed the alerts, which holds the position (`store.lock_position`).
        changes: transitions and their alerts' identifiers, in the order in which they happened.
        now: the time, aware.
        read: the positions between which the data was read that caused them; by hand, twice the one that is held.
        by_hand: somebody caused them, no data.
    """
    if not changes:
        return Published()
    tenants = (transition.alert.subject.tenant_id for transition, _ in changes)
    desk = _Desk(connection, now, tenants, (alert_id for _, alert_id in changes))
    for transition, alert_id in changes:
        number = desk.next_number(alert_id, transition.status)
        desk.take(replace(_new(transition, alert_id, number, now, read), by_hand=by_hand))
    return desk.close()


def due(connection: Connection, now: datetime) -> Published:
    """What time alone brings: what nothing keeps back any more, repeats, and groups that have waited long enough.

    Args:
        connection: inside a transaction that holds the position.
        now: the time, aware.
    """
    held = told.waiting(connection, "held", now)
    repeats = told.due_repeats(connection, now)
    published = Published()
    if held or repeats:
        alert_ids = [*(one.alert_id for one in held), *(alert_id for alert_id, _ in repeats)]
        alerts = store.alerts_by_ids(connection, alert_ids)
        desk = _Desk(connection, now, (alert.subject.tenant_id for alert in alerts.values()), alert_ids)
        for notification in held:
            desk.take(_as_it_is(notification, alerts[notification.alert_id]))
        for alert_id, number in repeats:
            desk.take(_repeat(alerts[alert_id], alert_id, number, now))
        published = desk.close()
    return _sum(published, _flush_groups(connection, now))


class _Desk:
    """One call's decisions, which see each other; written by `close`."""

    def __init__(
        self, connection: Connection, now: datetime, tenant_ids: Iterable[str], alert_ids: Iterable[UUID]
    ) -> None:
        ids = sorted(set(alert_ids))
        self._connection, self._now = connection, now
        self._states = told.states(connection, ids)
        self._counts = Counter((alert_id, transition) for alert_id, transition, _ in self._states)
        self._suppressed = told.suppressed(connection, ids)
        self._told_before = told.told_before(connection, ids)
        self._told_now: set[Subject] = set()
        self._tenants = told.read_tenants(connection, tenant_ids, now)
        self._outcomes: list[Outcome] = []
        self._over: list[UUID] = []
        self._kept_back: list[tuple[Notification, Muted]] = []

    def next_number(self, alert_id: UUID, transition: str) -> int:
        """How many transitions of this name the alert had before."""
        return self._counts[alert_id, transition]

    def take(self, notification: Notification, *, flushing: bool = False) -> bool:
        """Decide about a notification; returns whether it is told now."""
        tenant = self._tenants[notification.subject.tenant_id]
        causes = self._causes(tenant, notification)
        verdict = decide(
            notification.transition,
            repeats=notification.transition == "firing" and notification.number > 0,
            firing_was=self._firing_was(notification),
            is_firing=notification.is_firing,
            muted=bool(causes),
        )
        if verdict == "hold":
            self._keep_back(notification, causes)
            return False
        if verdict == "drop":
            self._drop(notification)
            return False
        key = group_key(tenant.policy, notification.labels)
        is_told = flushing or key is None
        self._settle(notification, "told" if is_told else "grouped", key)
        if is_told and notification.transition == "firing":
            self._told_now.add(notification.subject)
        return is_told

    def close(self, drafts: Sequence[EventDraft] | None = None) -> Published:
        """Write the decisions, and publish what is told, or in its stead the drafts of its groups."""
        told.save(self._connection, self._outcomes, self._now)
        told.drop_firings(self._connection, self._over)
        told.suppress(self._connection, self._kept_back, self._now)
        alone = [outcome.draft for outcome in self._outcomes if outcome.state == "told"]
        return publish(self._connection, alone if drafts is None else drafts, self._now)

    def _causes(self, tenant: Tenant, notification: Notification) -> list[Muted]:
        causes = tenant.muted(notification.labels, self._now)
        if notification.transition == "firing" and notification.number == 0:
            is_told_now = notification.subject in self._told_now
            before = self._now if is_told_now else self._told_before.get(notification.alert_id)
            if tenant.in_window(before, self._now):
                causes.append(Muted("window"))
        return causes

    def _firing_was(self, notification: Notification) -> State | None:
        if notification.transition == "firing" and notification.number == 0:
            return notification.state
        # Whatever has no row fired before rows were kept.
        return self._states.get((notification.alert_id, "firing", 0), "told")

    def _keep_back(self, notification: Notification, causes: Iterable[Muted]) -> None:
        self._kept_back += [
            (notification, cause) for cause in causes if (*notification.key, cause) not in self._suppressed
        ]
        # A repeat needs no keeping: it stays due.
        is_repeat = notification.transition == "firing" and notification.number > 0
        if notification.state != "held" and not is_repeat:
            self._settle(notification, "held", None)

    def _drop(self, notification: Notification) -> None:
        self._settle(notification, "dropped", None)
        if notification.transition in ("resolved", "retracted"):
            self._over.append(notification.alert_id)
            self._states[notification.alert_id, "firing", 0] = "dropped"

    def _settle(self, notification: Notification, state: State, key: Mapping[str, str] | None) -> None:
        if notification.key not in self._states:
            self._counts[notification.alert_id, notification.transition] += 1
        self._states[notification.key] = state
        self._outcomes.append(Outcome(notification, state, notification.draft, key))


def _flush_groups(connection: Connection, now: datetime) -> Published:
    total = Published()
    groups = told.waiting_groups(connection)
    policies = read_policies(connection, {tenant_id for tenant_id, *_ in groups})
    for tenant_id, key, since, flushed_at in groups:
        policy = policies[tenant_id]
        if policy.group_by is not None and not is_group_due(policy, since, flushed_at, now):
            continue
        members = told.waiting(connection, "grouped", now, tenant_id, key)
        desk = _Desk(connection, now, [tenant_id], (member.alert_id for member in members))
        drafts = [member.draft for member in members if desk.take(member, flushing=True)]
        total = _sum(total, desk.close([group_draft(key, drafts)] if drafts else []))
        if drafts:
            told.flushed(connection, tenant_id, key, now)
    return total


def _new(transition: Transition, alert_id: UUID, number: int, now: datetime, read: tuple[int, int]) -> Notification:
    draft = store.event_draft(transition, alert_id, now)
    window = draft.metric
    return Notification(
        alert_id=alert_id,
        transition=transition.status,
        number=number,
        subject=transition.alert.subject,
        severity=transition.alert.severity,
        is_firing=transition.alert.status == "firing",
        draft=draft,
        seen_at=now,
        window_start=window.window_start or now,
        window_end=window.window_end or now,
        read=read,
    )


def _as_it_is(notification: Notification, alert: Alert) -> Notification:
    # A firing that was kept back is told as it is by now; what ended or corrected it, as it was.
    if notification.transition != "firing":
        return notification
    return replace(notification, draft=_firing_draft(alert, notification.alert_id, notification.seen_at))


def _repeat(alert: Alert, alert_id: UUID, number: int, now: datetime) -> Notification:
    draft = _firing_draft(alert, alert_id, now)
    return Notification(
        alert_id=alert_id,
        transition="firing",
        number=number,
        subject=alert.subject,
        severity=alert.severity,
        is_firing=True,
        draft=replace(draft, dedupe=(*draft.dedupe, "repeat", str(number))),
        seen_at=now,
        window_start=alert.window_start,
        window_end=alert.window_end,
        read=(0, 0),
    )


def _firing_draft(alert: Alert, alert_id: UUID, now: datetime) -> EventDraft:
    still = Transition("firing", alert, alert.value, alert.evaluation_id, alert.correlation_id)
    return store.event_draft(still, alert_id, now)


def _sum(first: Published, then: Published) -> Published:
    return Published(
        events=first.events + then.events,
        deliveries=first.deliveries + then.deliveries,
        last_seq=then.last_seq if then.last_seq is not None else first.last_seq,
    )
