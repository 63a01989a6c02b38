"""What waits beside the queue: deliveries that an open breaker holds back, and those that a dead owner holds.

Belongs here: putting deliveries aside and back, a bounded number at a time, so that a backlog holds up nobody. Does
not belong here: when a breaker opens and closes (`breaker`), what has waited for too long (`giving_up`).
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from storage.database import Connection

_AT_ONCE = 500
MOST_COUNTED = 10_000

# By arrays, which are looked up in the index whatever the statistics say: a queue's are always of another moment.
_RELEASE = """
update alerting.webhook_deliveries
set state = 'retry', lease_until = null
where delivery_id = any(array(
    select delivery_id from alerting.webhook_deliveries
    where state = 'in_flight' and lease_until <= %(now)s
    order by delivery_id
    limit %(at_once)s
    for update skip locked
))
"""

# Endpoints of which something is parked, along the index; for a `with recursive`.
PARKED_ENDPOINTS = """
parked (webhook_id) as (
    (
        select webhook_id from alerting.webhook_deliveries where state = 'parked' order by webhook_id limit 1
    )
    union all
    select following.webhook_id
    from parked
    cross join lateral (
        select deliveries.webhook_id from alerting.webhook_deliveries as deliveries
        where deliveries.state = 'parked' and deliveries.webhook_id > parked.webhook_id
        order by deliveries.webhook_id
        limit 1
    ) as following
)
"""

# Of a closed breaker all that is parked, of one that may be probed the first, if nothing else of it could be the probe.
_UNPARK = f"""
with recursive {PARKED_ENDPOINTS},

back as (
    select taken.delivery_id
    from parked
    inner join alerting.webhooks using (webhook_id)
    cross join lateral (
        select deliveries.delivery_id from alerting.webhook_deliveries as deliveries
        where deliveries.webhook_id = webhooks.webhook_id and deliveries.state = 'parked'
        order by deliveries.next_attempt_at, deliveries.delivery_id
        limit case when webhooks.breaker = 'closed' then %(at_once)s else 1 end
        for update skip locked
    ) as taken
    where
        webhooks.status = 'active'
        and (
            webhooks.breaker = 'closed'
            or (
                webhooks.breaker_until <= %(now)s
                and not exists (
                    select from alerting.webhook_deliveries as deliveries
                    where deliveries.webhook_id = webhooks.webhook_id and deliveries.state = 'in_flight'
                )
                and coalesce(
                    (
                        select deliveries.next_attempt_at from alerting.webhook_deliveries as deliveries
                        where deliveries.webhook_id = webhooks.webhook_id and deliveries.state in ('pending', 'retry')
                        order by deliveries.next_attempt_at
                        limit 1
                    ),
                    'infinity'
                ) > %(now)s
            )
        )
)

update alerting.webhook_deliveries
set state = case when attempt_count = 0 then 'pending' else 'retry' end
where delivery_id = any(array(select back.delivery_id from back))
"""  # noqa: S608 - constants

_COUNT = """
select count(*)
from (select from alerting.webhook_deliveries where state = 'parked' limit %(most)s) as counted
"""

_PARK = """
update alerting.webhook_deliveries
set state = 'parked'
where delivery_id = any(array(
    select taken.delivery_id
    from unnest(%(ids)s::uuid []) as endpoints (webhook_id)
    cross join lateral (
        select deliveries.delivery_id from alerting.webhook_deliveries as deliveries
        where
            deliveries.webhook_id = endpoints.webhook_id
            and deliveries.state in ('pending', 'retry')
            and deliveries.next_attempt_at <= %(now)s
        order by deliveries.next_attempt_at, deliveries.delivery_id
        limit %(at_once)s
        for update skip locked
    ) as taken
))
"""


def park(connection: Connection, webhook_ids: Sequence[UUID], now: datetime) -> None:
    """Put aside what is due of endpoints whose breakers are open."""
    connection.execute(_PARK, {"ids": list(webhook_ids), "now": now, "at_once": _AT_ONCE})


def count_parked(connection: Connection) -> int:
    """How many deliveries are put aside, of all endpoints; counted up to 10,000."""
    [[count]] = connection.execute(_COUNT, {"most": MOST_COUNTED}).fetchall()
    return int(count)


def sweep(connection: Connection, now: datetime) -> int:
    """Put back what waits for nothing any more: what dead owners hold, what breakers that closed had put aside.

    Returns:
        How many were put back: while there are any, there may be more.
    """
    values = {"now": now, "at_once": _AT_ONCE}
    with connection.transaction():
        released = connection.execute(_RELEASE, values).rowcount
        return released + connection.execute(_UNPARK.encode(), values).rowcount
