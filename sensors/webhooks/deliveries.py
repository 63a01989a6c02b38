"""The log of deliveries, and sending one again.

Belongs here: reading deliveries with their last attempt, and replay. Does not belong here: delivering (`delivery`).
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from psycopg.rows import dict_row

from sensors.outbox import CHANNEL
from sensors.webhooks.registry import get_webhook
from storage.audit import record_audit
from storage.database import Connection
from storage.errors import ConflictError, NotFoundError

_LIST = """
select
    deliveries.delivery_id,
    events.event_type,
    events.seq,
    deliveries.state,
    deliveries.attempt_count as attempts,
    last.status_code,
    last.error,
    last.response,
    case when deliveries.state in ('pending', 'retry') then deliveries.next_attempt_at end as next_attempt_at,
    deliveries.delivered_at,
    deliveries.created_at,
    events.event_id,
    events.alert_id,
    convert_from(events.body, 'UTF8')::json ->> 'correlation_id' as correlation_id
from alerting.webhook_deliveries as deliveries
inner join alerting.events using (event_id)
left join lateral (
    select status_code, error, response from alerting.delivery_attempts
    where delivery_attempts.delivery_id = deliveries.delivery_id
    order by started_at desc, attempt_id desc
    limit 1
) as last on true
where
    deliveries.tenant_id = %(tenant_id)s
    and deliveries.webhook_id = %(webhook_id)s
    and (%(state)s::text is null or deliveries.state = %(state)s)
    and (%(after)s::uuid is null or deliveries.delivery_id < %(after)s)
order by deliveries.delivery_id desc
limit %(limit)s
"""

_FIND = """
select webhooks.webhook_id, webhooks.status, deliveries.state
from alerting.webhook_deliveries as deliveries
inner join alerting.webhooks on deliveries.webhook_id = webhooks.webhook_id
where deliveries.tenant_id = %(tenant_id)s and deliveries.delivery_id = %(delivery_id)s
for update of deliveries
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


def list_deliveries(
    connection: Connection,
    tenant_id: str,
    webhook_id: UUID,
    *,
    state: str | None = None,
    after: UUID | None = None,
    limit: int = 100,
) -> list[Mapping[str, object]]:
    """An endpoint's deliveries with what its last attempt brought, the newest first; `after` a delivery's identifier.

    Raises:
        NotFoundError: the tenant has no such endpoint.
    """
    get_webhook(connection, tenant_id, webhook_id)
    values = {"tenant_id": tenant_id, "webhook_id": webhook_id, "state": state, "after": after, "limit": limit}
    with connection.cursor(row_factory=dict_row) as cursor:
        return [row | {"response": _shown(row["response"])} for row in cursor.execute(_LIST, values)]


def replay_delivery(connection: Connection, tenant_id: str, delivery_id: UUID, *, now: datetime) -> bool:
    """Send a delivery again, with the same identifier and the same bytes; False if it is waiting to be sent anyway.

    Raises:
        UsageError: the tenant has no such delivery, or its endpoint is deleted.
    """
    values = {"tenant_id": tenant_id, "delivery_id": delivery_id, "now": now}
    with connection.transaction():
        row = connection.execute(_FIND, values).fetchone()
        if row is None:
            raise NotFoundError("delivery", delivery_id, "`tidemark webhook deliveries` lists an endpoint's")
        webhook_id, status, state = row
        if status == "deleted":
            raise ConflictError(f"webhook {webhook_id} is deleted: nothing is sent to it any more")
        if not connection.execute(_REPLAY, values).rowcount:
            return False
        connection.execute("select pg_notify(%s, '')", (CHANNEL,))
        detail = {"webhook_id": str(webhook_id), "state": state}
        record_audit(connection, tenant_id=tenant_id, action="webhook.replay", subject=str(delivery_id), detail=detail)
    return True


def _shown(response: bytes | None) -> str | None:
    return None if response is None else response.decode(errors="replace")
