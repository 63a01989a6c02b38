"""The log of deliveries: what was sent to whom, and what came back last.

Does not belong here: delivering (`delivery`), sending again (`replays`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from psycopg.rows import dict_row

from sensors.webhooks.registry import Webhook, check_event_types, get_webhook
from storage.database import Connection
from storage.errors import NotFoundError, UsageError
from storage.tenants import require_tenant

State = Literal["pending", "in_flight", "delivered", "retry", "failed", "cancelled", "parked"]
STATES: tuple[State, ...] = get_args(State)

# What a `Selection` chooses, for every statement that takes one.
CHOSEN = """
    deliveries.tenant_id = %(tenant_id)s
    and (%(webhook_id)s::uuid is null or deliveries.webhook_id = %(webhook_id)s)
    and (%(state)s::text is null or deliveries.state = %(state)s)
    and (%(event_type)s::text is null or events.event_type = %(event_type)s)
    and (%(since)s::timestamptz is null or deliveries.created_at >= %(since)s)
    and (%(until)s::timestamptz is null or deliveries.created_at < %(until)s)
"""

_LIST = f"""
select
    deliveries.delivery_id,
    deliveries.webhook_id,
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
    events.body is not null as replayable,
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
    {CHOSEN}
    and (%(after)s::uuid is null or deliveries.delivery_id < %(after)s)
order by deliveries.delivery_id desc
limit %(limit)s
"""  # noqa: S608 - a constant

_ENDPOINT = """
select webhook_id from alerting.webhook_deliveries
where tenant_id = %(tenant_id)s and delivery_id = %(delivery_id)s
"""


@dataclass(frozen=True)
class Selection:
    """Which of a tenant's deliveries; None is any.

    Attributes:
        since, until: when they were queued, aware; `until` itself is not among them.
    """

    webhook_id: UUID | None = None
    state: State | None = None
    event_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def checked(self, connection: Connection, tenant_id: str) -> Mapping[str, object]:
        """The statement's values, once it is sure that there is anything to choose from.

        Raises:
            UsageError: an unknown tenant, endpoint or event type, or an empty span.
        """
        require_tenant(connection, tenant_id)
        if self.webhook_id is not None:
            get_webhook(connection, tenant_id, self.webhook_id)
        if self.event_type is not None:
            check_event_types([self.event_type])
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise UsageError("since: it must be earlier than until")
        return {"tenant_id": tenant_id, **vars(self)}


def list_deliveries(
    connection: Connection,
    tenant_id: str,
    selection: Selection,
    *,
    after: UUID | None = None,
    limit: int = 100,
) -> list[Mapping[str, object]]:
    """Deliveries with what their last attempt brought, the newest first; `after` a delivery's identifier.

    Raises:
        UsageError: see `Selection.checked`.
    """
    values = {**selection.checked(connection, tenant_id), "after": after, "limit": limit}
    with connection.cursor(row_factory=dict_row) as cursor:
        return [row | {"response": _shown(row["response"])} for row in cursor.execute(_LIST.encode(), values)]


def endpoint_of(connection: Connection, tenant_id: str, delivery_id: UUID) -> Webhook:
    """The endpoint that a delivery is for.

    Raises:
        NotFoundError: the tenant has no such delivery.
    """
    row = connection.execute(_ENDPOINT, {"tenant_id": tenant_id, "delivery_id": delivery_id}).fetchone()
    if row is None:
        raise NotFoundError("delivery", delivery_id, "`tidemark webhook deliveries` lists an endpoint's")
    return get_webhook(connection, tenant_id, row[0])


def _shown(response: bytes | None) -> str | None:
    return None if response is None else response.decode(errors="replace")
