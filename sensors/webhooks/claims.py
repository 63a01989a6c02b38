"""Taking deliveries: endpoint by endpoint, under a lease, and every request has its attempt row before it is sent.

Belongs here: the SQL of claiming and of what is due next. Does not belong here: how much an endpoint may have at once
(`breaker`), what waits for it (`parking`), results (`settling`), sending (`delivery`).

Whoever claims for an endpoint has its row locked and others pass it by, so its limits hold for all drainers together,
and a claim looks at the head of each endpoint's queue, never along it. A claim raises the delivery's fence; a result
counts only while that fence stands. Who loses its lease (a stopped process that wakes up late) leaves its attempt as
evidence and changes nothing else.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import cached_property
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row

from sensors.webhooks.breaker import Endpoint, share
from sensors.webhooks.parking import park
from storage.database import Connection

LEASE = timedelta(seconds=60)

_STANDING = sql.SQL(", ").join(
    sql.Identifier("webhooks", field.name) for field in fields(Endpoint) if field.name != "in_flight"
)

# The first of each endpoint's queue, from endpoint to endpoint along the index: its backlog is never walked.
_HEADS = """
recursive heads (webhook_id, due_at) as (
    (
        select webhook_id, next_attempt_at from alerting.webhook_deliveries
        where state in ('pending', 'retry')
        order by webhook_id, next_attempt_at
        limit 1
    )
    union all
    select following.webhook_id, following.next_attempt_at
    from heads
    cross join lateral (
        select deliveries.webhook_id, deliveries.next_attempt_at from alerting.webhook_deliveries as deliveries
        where deliveries.state in ('pending', 'retry') and deliveries.webhook_id > heads.webhook_id
        order by deliveries.webhook_id, deliveries.next_attempt_at
        limit 1
    ) as following
)
"""

_LOCK_ENDPOINTS = sql.SQL("""
with {heads}
select {standing}
from heads
inner join alerting.webhooks using (webhook_id)
where heads.due_at <= %(now)s and webhooks.status = 'active'
for no key update of webhooks skip locked
""").format(heads=sql.SQL(_HEADS), standing=_STANDING)

# In a statement of its own, after the lock: else it would be told from before another drainer's claim.
_COUNT_IN_FLIGHT = """
select webhook_id, count(*) from alerting.webhook_deliveries
where state = 'in_flight' and lease_until > %(now)s and webhook_id = any(%(ids)s)
group by webhook_id
"""

# Of an endpoint in order the oldest of each subject, if it is due, parked or not: what is behind a parked one waits
# for it once it is put back, and nothing would be left to probe the endpoint with. The attempt is written by the
# statement that claims, so that it is committed before anything is sent. By an array, which is looked up in the index
# whatever the statistics say: those of a queue are always of another moment.
_CLAIM = """
with due as (
    select taken.delivery_id
    from unnest(%(ids)s::uuid [], %(most)s::integer [], %(ordered)s::boolean [])
        as endpoints (webhook_id, most, ordered)
    cross join lateral (
        select deliveries.delivery_id from alerting.webhook_deliveries as deliveries
        where
            deliveries.webhook_id = endpoints.webhook_id
            and deliveries.state in ('pending', 'retry')
            and deliveries.next_attempt_at <= %(now)s
        order by deliveries.next_attempt_at, deliveries.delivery_id
        limit endpoints.most
        for update skip locked
    ) as taken
    where not endpoints.ordered
),

first_of_subjects as (
    select taken.delivery_id
    from unnest(%(ids)s::uuid [], %(most)s::integer [], %(ordered)s::boolean [])
        as endpoints (webhook_id, most, ordered)
    cross join lateral (
        with recursive firsts (subject_key, delivery_id, state, next_attempt_at) as (
            (
                select subject_key, delivery_id, state, next_attempt_at from alerting.webhook_deliveries
                where
                    webhook_id = endpoints.webhook_id
                    and state in ('pending', 'retry', 'in_flight', 'parked')
                order by subject_key, delivery_id
                limit 1
            )
            union all
            select following.*
            from firsts
            cross join lateral (
                select deliveries.subject_key, deliveries.delivery_id, deliveries.state, deliveries.next_attempt_at
                from alerting.webhook_deliveries as deliveries
                where
                    deliveries.webhook_id = endpoints.webhook_id
                    and deliveries.subject_key > firsts.subject_key
                    and deliveries.state in ('pending', 'retry', 'in_flight', 'parked')
                order by deliveries.subject_key, deliveries.delivery_id
                limit 1
            ) as following
        )
        select firsts.delivery_id from firsts
        where firsts.state in ('pending', 'retry', 'parked') and firsts.next_attempt_at <= %(now)s
        order by firsts.next_attempt_at, firsts.delivery_id
        limit endpoints.most
    ) as taken
    where endpoints.ordered
),

claimed as (
    update alerting.webhook_deliveries
    set
        state = 'in_flight',
        fence = fence + 1,
        attempt_count = attempt_count + 1,
        lease_until = %(now)s + %(lease)s
    where
        delivery_id = any(
            array(select due.delivery_id from due union all select first_of_subjects.delivery_id from first_of_subjects)
        )
        and state in ('pending', 'retry', 'parked')
    returning *
),

attempts as (
    insert into alerting.delivery_attempts (tenant_id, delivery_id, attempt, started_at)
    select claimed.tenant_id, claimed.delivery_id, claimed.attempt_count, %(now)s from claimed
    returning attempt_id, delivery_id
)

select
    claimed.tenant_id,
    claimed.delivery_id,
    claimed.webhook_id,
    claimed.fence,
    claimed.attempt_count as attempt,
    attempts.attempt_id,
    webhooks.retry_profile,
    events.event_type,
    events.body
from claimed
inner join attempts using (delivery_id)
inner join alerting.webhooks on claimed.webhook_id = webhooks.webhook_id
inner join alerting.events using (event_id)
order by claimed.next_attempt_at, claimed.delivery_id
"""

_TOOK = """
update alerting.webhooks
set
    tokens = %(tokens)s,
    tokens_at = %(now)s,
    breaker = case when breaker = 'open' then 'half_open' else breaker end
where webhook_id = %(webhook_id)s
"""

_NEXT_DUE = sql.SQL("""
with {heads},

times as (
    select
        greatest(
            heads.due_at,
            case when webhooks.breaker = 'open' then webhooks.breaker_until end,
            webhooks.tokens_at + (1 - webhooks.tokens) / webhooks.rate_per_second * interval '1 second'
        ) as due_at
    from heads
    inner join alerting.webhooks using (webhook_id)
    where webhooks.status = 'active'
    union all
    select webhooks.breaker_until
    from alerting.webhooks
    where
        webhooks.status = 'active'
        and webhooks.breaker = 'open'
        and exists (
            select from alerting.webhook_deliveries as deliveries
            where deliveries.webhook_id = webhooks.webhook_id and deliveries.state = 'parked'
        )
    union all
    select deliveries.lease_until from alerting.webhook_deliveries as deliveries where deliveries.state = 'in_flight'
)

select min(times.due_at) from times
""").format(heads=sql.SQL(_HEADS))

_COUNT_DUE = """
select count(*)
from alerting.webhook_deliveries as deliveries
inner join alerting.webhooks on deliveries.webhook_id = webhooks.webhook_id
where
    webhooks.status = 'active'
    and not (webhooks.breaker = 'open' and webhooks.breaker_until > %(now)s)
    and (
        (deliveries.state in ('pending', 'retry') and deliveries.next_attempt_at <= %(now)s)
        or (deliveries.state = 'in_flight' and deliveries.lease_until <= %(now)s)
        or deliveries.state = 'parked'
    )
"""


@dataclass(frozen=True)
class Claim:
    """One delivery in the hands of this process, until its lease runs out."""

    tenant_id: str
    delivery_id: UUID
    webhook_id: UUID
    fence: int
    attempt: int
    attempt_id: UUID
    retry_profile: str
    event_type: str
    body: bytes

    @cached_property
    def correlation_id(self) -> str | None:
        """What the event was caused by: that of the record, or else of the request that brought it."""
        told: str | None = json.loads(self.body)["correlation_id"]
        return told


def claim(
    connection: Connection, now: datetime, limit: int, lease: timedelta = LEASE, order: random.Random | None = None
) -> Sequence[Claim]:
    """Take up to `limit` due deliveries of active endpoints; commits by itself, or with the caller's transaction.

    Args:
        connection: in UTC.
        now: aware; decides what is due.
        limit: how many at most, of all endpoints.
        lease: how long the claims stand.
        order: by which chance endpoints that are equal are served.
    """
    with connection.transaction():
        with connection.cursor(row_factory=class_row(Endpoint)) as cursor:
            endpoints = cursor.execute(_LOCK_ENDPOINTS, {"now": now}).fetchall()
        parked = [endpoint.webhook_id for endpoint in endpoints if endpoint.is_parked(now)]
        if parked:
            park(connection, parked, now)
        served = [endpoint for endpoint in endpoints if not endpoint.is_parked(now)]
        if not served:
            return ()
        (order or random.SystemRandom()).shuffle(served)
        served = _counted(connection, served, now)
        turns = share(served, {endpoint.webhook_id: endpoint.allowance(now) for endpoint in served}, limit)
        return _take(connection, turns, now, lease) if turns else ()


def next_due(connection: Connection, now: datetime) -> datetime | None:
    """When a claim could find something next, as far as the rows tell; may lie in the past; None if nothing waits."""
    row = connection.execute(_NEXT_DUE, {"now": now}).fetchone()
    due_at: datetime | None = row[0] if row else None
    return due_at


def due(connection: Connection, now: datetime) -> int:
    """How many deliveries of active endpoints are due, without those that a breaker holds back."""
    row = connection.execute(_COUNT_DUE, {"now": now}).fetchone()
    return int(row[0]) if row else 0


def _counted(connection: Connection, endpoints: Sequence[Endpoint], now: datetime) -> list[Endpoint]:
    values = {"ids": [endpoint.webhook_id for endpoint in endpoints], "now": now}
    in_flight: Mapping[UUID, int] = dict(connection.execute(_COUNT_IN_FLIGHT, values).fetchall())
    return [replace(endpoint, in_flight=in_flight.get(endpoint.webhook_id, 0)) for endpoint in endpoints]


def _take(
    connection: Connection, turns: Sequence[tuple[Endpoint, int]], now: datetime, lease: timedelta
) -> Sequence[Claim]:
    values = {
        "ids": [endpoint.webhook_id for endpoint, _ in turns],
        "most": [most for _, most in turns],
        "ordered": [endpoint.ordered for endpoint, _ in turns],
        "now": now,
        "lease": lease,
    }
    with connection.cursor(row_factory=class_row(Claim)) as cursor:
        claims = cursor.execute(_CLAIM, values).fetchall()
    for endpoint, _ in turns:
        taken = sum(owned.webhook_id == endpoint.webhook_id for owned in claims)
        if taken and (endpoint.rate_per_second is not None or endpoint.breaker == "open"):
            tokens = endpoint.tokens_now(now) - taken
            connection.execute(_TOOK, {"webhook_id": endpoint.webhook_id, "tokens": tokens, "now": now})
    return claims
