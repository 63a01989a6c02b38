"""Sending again: one delivery, or all of a kind, with the same identifiers and the same bytes.

Belongs here: putting what is over back into the queue, with an audit entry. Does not belong here: delivering it
(`delivery`).

A replay and `retention` share a lock, so that no body goes while its delivery is being queued again.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sensors.outbox import CHANNEL
from sensors.webhooks.deliveries import CHOSEN, Selection
from storage.audit import record_audit
from storage.database import Connection
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.locks import AdvisoryLock

MOST_REPLAYED = 10_000
Over = Literal["failed", "delivered", "cancelled"]
OVER: tuple[Over, ...] = get_args(Over)

_KEEP_BODIES = "select pg_advisory_xact_lock_shared(%(key)s)"

_FIND = """
select webhooks.webhook_id, webhooks.status, deliveries.state, events.body is not null
from alerting.webhook_deliveries as deliveries
inner join alerting.webhooks on deliveries.webhook_id = webhooks.webhook_id
inner join alerting.events on deliveries.event_id = events.event_id
where deliveries.tenant_id = %(tenant_id)s and deliveries.delivery_id = %(delivery_id)s
for update of deliveries
for key share of webhooks
"""

# What is dead or done starts its schedule anew; what waits for its retry is due at once; the rest is under way anyway.
_REPLAY = """
update alerting.webhook_deliveries
set
    state = case when state = 'retry' then 'retry' else 'pending' end,
    attempt_count = case when state = 'retry' then attempt_count else 0 end,
    next_attempt_at = %(now)s,
    delivered_at = null
where delivery_id = %(delivery_id)s and state in ('failed', 'delivered', 'cancelled', 'parked', 'retry')
"""

_CANDIDATES = f"""
from alerting.webhook_deliveries as deliveries
inner join alerting.events using (event_id)
inner join alerting.webhooks using (webhook_id)
where
    {CHOSEN}
    and webhooks.status <> 'deleted'
    and (%(key)s::text is null or deliveries.replay_key is distinct from %(key)s)
"""

_COUNT = f"""
select count(*) filter (where events.body is not null), count(*) filter (where events.body is null)
{_CANDIDATES}
"""

# In the order of the events, because delivery identifiers tell the time.
_REPLAY_RANGE = f"""
with chosen as (
    select deliveries.delivery_id {_CANDIDATES} and events.body is not null
    order by deliveries.delivery_id
    limit %(limit)s
    for update of deliveries
    for key share of webhooks
)

update alerting.webhook_deliveries
set
    state = 'pending', attempt_count = 0, next_attempt_at = %(now)s, delivered_at = null,
    replay_key = coalesce(%(key)s, replay_key)
where delivery_id in (select chosen.delivery_id from chosen) and state = %(state)s
"""  # noqa: S608 - a constant


@dataclass(frozen=True)
class Replayed:
    """What a replay of many did, or would do.

    Attributes:
        queued: deliveries that are due now.
        without_body: deliveries that can't be sent again, since retention has forgotten what they said.
        left: deliveries beyond the most that one call takes; another call takes them.
    """

    queued: int
    without_body: int
    left: int


def replay_delivery(connection: Connection, tenant_id: str, delivery_id: UUID, *, now: datetime) -> bool:
    """Send a delivery again, with the same identifier and the same bytes; False if it is waiting to be sent anyway.

    Raises:
        UsageError: the tenant has no such delivery, its endpoint is deleted, or its body is no longer kept.
    """
    values = {"tenant_id": tenant_id, "delivery_id": delivery_id, "now": now}
    with connection.transaction():
        connection.execute(_KEEP_BODIES, {"key": AdvisoryLock.EVENT_BODIES.value})
        row = connection.execute(_FIND, values).fetchone()
        if row is None:
            raise NotFoundError("delivery", delivery_id, "`tidemark webhook deliveries` lists an endpoint's")
        webhook_id, status, state, has_body = row
        if status == "deleted":
            raise ConflictError(f"webhook {webhook_id} is deleted: nothing is sent to it any more")
        if not has_body:
            raise ConflictError(
                f"delivery {delivery_id} can't be sent again: its body is older than "
                "TIDEMARK_WEBHOOK_BODIES_RETENTION_DAYS and no longer kept"
            )
        if not connection.execute(_REPLAY, values).rowcount:
            return False
        connection.execute("select pg_notify(%s, '')", (CHANNEL,))
        detail = {"webhook_id": str(webhook_id), "state": state}
        record_audit(connection, tenant_id=tenant_id, action="webhook.replay", subject=str(delivery_id), detail=detail)
    return True


def replay_deliveries(
    connection: Connection,
    tenant_id: str,
    selection: Selection,
    *,
    now: datetime,
    key: str | None = None,
    dry_run: bool = False,
) -> Replayed:
    """Send again what a selection chooses, at most 10,000 deliveries, the oldest first.

    Whatever is queued again is no longer `failed`, so a call that is repeated finds what has failed anew and nothing
    else. With a `key`, it doesn't find that either: each delivery is sent again once for each key.

    Args:
        connection: commits by itself unless it is in a transaction.
        tenant_id: whose deliveries.
        selection: its state is one of `failed`, `delivered`, `cancelled`.
        now: from when they are due, aware.
        key: any text that names this replay; `delivered` needs one.
        dry_run: only count.

    Raises:
        UsageError: another state, no key where it is needed, or see `Selection.checked`.
    """
    if selection.state not in OVER:
        raise UsageError(f"state: {selection.state} is not one of {', '.join(OVER)}, which alone are over")
    if selection.state == "delivered" and key is None:
        raise UsageError(
            "key: what was delivered is sent again under a key alone, so that repeating this repeats nothing"
        )
    with connection.transaction():
        values: dict[str, Any] = {**selection.checked(connection, tenant_id), "key": key, "now": now}
        connection.execute(_KEEP_BODIES, {"key": AdvisoryLock.EVENT_BODIES.value})
        [[found, without_body]] = connection.execute(_COUNT.encode(), values).fetchall()
        if dry_run:
            return Replayed(min(found, MOST_REPLAYED), without_body, max(found - MOST_REPLAYED, 0))
        queued = connection.execute(_REPLAY_RANGE.encode(), values | {"limit": MOST_REPLAYED}).rowcount
        replayed = Replayed(queued, without_body, max(found - queued, 0))
        if queued:
            connection.execute("select pg_notify(%s, '')", (CHANNEL,))
            _note(connection, tenant_id, selection, key, replayed)
    return replayed


def _note(connection: Connection, tenant_id: str, selection: Selection, key: str | None, replayed: Replayed) -> None:
    chosen = {name: str(value) for name, value in asdict(selection).items() if value is not None}
    record_audit(
        connection,
        tenant_id=tenant_id,
        action="webhook.replay_range",
        subject=str(selection.webhook_id or tenant_id),
        detail={**chosen, "queued": replayed.queued, **({} if key is None else {"key": key})},
    )
