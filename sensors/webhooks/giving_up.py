"""An end for what waits behind an endpoint that doesn't come back: dead letters, which can be sent again.

Belongs here: when parked deliveries are given up, a bounded number at a time, and that the operator hears of it. Does
not belong here: parking (`parking`), a delivery whose own retries are used up (`settling`).

What is due for seven days at an endpoint that hasn't answered well once in as many becomes `failed`: longer than any
retry profile lasts, so that nothing waits less for a breaker than it would have been tried. A paused endpoint's
deliveries wait however long, and after a resumption the seven days begin anew. Probes go on, with what is due later.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from sensors.outbox import EventDraft, MetricPart, publish
from sensors.webhooks.parking import PARKED_ENDPOINTS
from storage.audit import acting_as, record_audit
from storage.database import Connection

GIVE_UP_AFTER = timedelta(days=7)
_AT_ONCE = 500

# What became a dead letter without a last attempt has the time of this in its stead.
_GIVE_UP = f"""
with recursive {PARKED_ENDPOINTS},

hopeless as (
    select webhooks.tenant_id, webhooks.webhook_id, webhooks.failing_since, taken.delivery_id
    from parked
    inner join alerting.webhooks using (webhook_id)
    cross join lateral (
        select deliveries.delivery_id from alerting.webhook_deliveries as deliveries
        where
            deliveries.webhook_id = webhooks.webhook_id
            and deliveries.state = 'parked'
            and deliveries.next_attempt_at <= %(before)s
        order by deliveries.next_attempt_at, deliveries.delivery_id
        limit %(at_once)s
        for update skip locked
    ) as taken
    where webhooks.status = 'active' and webhooks.breaker <> 'closed' and webhooks.failing_since <= %(before)s
),

given_up as (
    update alerting.webhook_deliveries set state = 'failed', next_attempt_at = %(now)s
    where delivery_id = any(array(select hopeless.delivery_id from hopeless))
    returning delivery_id
)

select hopeless.tenant_id, hopeless.webhook_id, hopeless.failing_since, count(*) as deliveries
from hopeless
inner join given_up using (delivery_id)
group by hopeless.tenant_id, hopeless.webhook_id, hopeless.failing_since
"""  # noqa: S608 - constants

_IS_TOLD = "select 1 from alerting.events where dedupe_key = %(key)s"
_COUNT_LEFT = """
select count(*) from alerting.webhook_deliveries
where webhook_id = %(webhook_id)s and state = 'parked' and next_attempt_at <= %(before)s
"""


class _GivenUp(NamedTuple):
    tenant_id: str
    webhook_id: UUID
    failing_since: datetime
    deliveries: int


def give_up(connection: Connection, now: datetime) -> int:
    """Let what has waited for too long be dead letters, and tell the tenant's other endpoints once a day how many.

    Returns:
        How many were given up: while there are any, there may be more.
    """
    values = {"before": now - GIVE_UP_AFTER, "now": now, "at_once": _AT_ONCE}
    with connection.transaction():
        with connection.cursor(row_factory=class_row(_GivenUp)) as cursor:
            found = cursor.execute(_GIVE_UP.encode(), values).fetchall()
        for one in found:
            _tell(connection, one, now)
    return sum(one.deliveries for one in found)


def _tell(connection: Connection, given_up: _GivenUp, now: datetime) -> None:
    tenant_id, webhook_id, failing_since, deliveries = given_up
    dedupe = (str(webhook_id), "given_up", failing_since.isoformat(), now.date().isoformat())
    draft = EventDraft(tenant_id, "webhook_disabled", dedupe, now, correlation_id=str(webhook_id))
    if connection.execute(_IS_TOLD, {"key": draft.dedupe_key}).fetchone():
        return
    values = {"webhook_id": webhook_id, "before": now - GIVE_UP_AFTER}
    [[left]] = connection.execute(_COUNT_LEFT, values).fetchall()
    metric = MetricPart("deliveries_given_up", float(deliveries + left), window_start=failing_since, window_end=now)
    detail = {"deliveries": deliveries + left, "failing_since": failing_since.isoformat()}
    with acting_as("dispatcher"):
        record_audit(connection, tenant_id=tenant_id, action="webhook.give_up", subject=str(webhook_id), detail=detail)
    publish(connection, [replace(draft, metric=metric)], now, except_webhook=webhook_id)
