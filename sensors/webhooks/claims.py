"""Deliveries as rows: what is due is claimed under a lease, every request has its attempt row before it is sent.

Belongs here: the SQL of claiming and of writing results, the retry schedule. Does not belong here: sending
(`delivery`).

A claim raises the row's fence; a result counts only while that fence stands. Who loses its lease (a stopped process
that wakes up late) leaves its attempt as evidence and changes nothing else.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from psycopg.rows import class_row

from sensors.outbox import EventDraft, publish
from sensors.webhooks.transport import Answer
from storage.audit import acting_as, record_audit
from storage.database import Connection

RETRY_AFTER = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30))
LEASE = timedelta(seconds=60)
MAX_JITTER = 0.1
GONE = 410

# The attempt is written by the statement that claims, so that it is committed before anything is sent.
_CLAIM = """
with due as (
    select deliveries.delivery_id
    from alerting.webhook_deliveries as deliveries
    inner join alerting.webhooks on deliveries.webhook_id = webhooks.webhook_id
    where
        webhooks.status = 'active'
        and (
            (deliveries.state in ('pending', 'retry') and deliveries.next_attempt_at <= %(now)s)
            or (deliveries.state = 'in_flight' and deliveries.lease_until <= %(now)s)
        )
    order by deliveries.next_attempt_at, deliveries.delivery_id
    limit %(limit)s
    for update of deliveries skip locked
),

claimed as (
    update alerting.webhook_deliveries
    set
        state = 'in_flight',
        fence = fence + 1,
        attempt_count = attempt_count + 1,
        lease_until = %(now)s + %(lease)s
    where delivery_id in (select due.delivery_id from due)
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
    events.event_type,
    events.body
from claimed
inner join attempts using (delivery_id)
inner join alerting.events using (event_id)
order by claimed.next_attempt_at, claimed.delivery_id
"""

_FINISH_ATTEMPT = """
update alerting.delivery_attempts
set finished_at = %(now)s, status_code = %(status_code)s, error = %(error)s, response = %(response)s
where attempt_id = %(attempt_id)s
"""

_FINISH_DELIVERY = """
update alerting.webhook_deliveries
set
    state = %(state)s,
    next_attempt_at = coalesce(%(next_attempt_at)s, next_attempt_at),
    delivered_at = case when %(state)s = 'delivered' then %(now)s end,
    lease_until = null
where delivery_id = %(delivery_id)s and fence = %(fence)s and state = 'in_flight'
"""

_DISABLE = """
update alerting.webhooks set status = 'disabled' where webhook_id = %(webhook_id)s and status in ('active', 'paused')
"""

Outcome = Literal["delivered", "retry", "failed"]


@dataclass(frozen=True)
class Claim:
    """One delivery in the hands of this process, until its lease runs out."""

    tenant_id: str
    delivery_id: UUID
    webhook_id: UUID
    fence: int
    attempt: int
    attempt_id: UUID
    event_type: str
    body: bytes

    @property
    def correlation_id(self) -> str | None:
        """What the event was caused by: that of the record, or else of the request that brought it."""
        told: str | None = json.loads(self.body)["correlation_id"]
        return told


@dataclass(frozen=True)
class Settled:
    """What became of a claim: its outcome, or None if the claim no longer stood."""

    outcome: Outcome | None


def claim(connection: Connection, now: datetime, limit: int, lease: timedelta = LEASE) -> Sequence[Claim]:
    """Take up to `limit` due deliveries of active endpoints, also those whose last owner died; commits by itself."""
    with connection.transaction(), connection.cursor(row_factory=class_row(Claim)) as cursor:
        return cursor.execute(_CLAIM, {"now": now, "limit": limit, "lease": lease}).fetchall()


def settle(connection: Connection, owned: Claim, answer: Answer, now: datetime, jitter: random.Random) -> Settled:
    """Write an answer: on the attempt always, on the delivery if the claim still stands; commits by itself.

    2xx is delivered: the status line is the receipt, whatever follows it. 410 is the endpoint's wish to be left alone:
    it is disabled, and the tenant's other endpoints are told. All else is tried again on schedule, then failed.
    """
    outcome = _outcome(owned.attempt, answer.status_code)
    delay = RETRY_AFTER[owned.attempt - 1] * (1 + MAX_JITTER * jitter.random()) if outcome == "retry" else None
    result = {
        "attempt_id": owned.attempt_id,
        "delivery_id": owned.delivery_id,
        "fence": owned.fence,
        "now": now,
        "state": outcome,
        "next_attempt_at": now + delay if delay else None,
        "status_code": answer.status_code,
        "error": answer.error,
        "response": answer.response,
    }
    with connection.transaction():
        connection.execute(_FINISH_ATTEMPT, result)
        stands = connection.execute(_FINISH_DELIVERY, result).rowcount == 1
        if stands and answer.status_code == GONE:
            _disable(connection, owned, now)
    return Settled(outcome if stands else None)


def _outcome(attempt: int, status_code: int | None) -> Outcome:
    if status_code is not None and 200 <= status_code < 300:  # noqa: PLR2004 - HTTP's own numbers
        return "delivered"
    return "failed" if status_code == GONE or attempt > len(RETRY_AFTER) else "retry"


def _disable(connection: Connection, owned: Claim, now: datetime) -> None:
    if not connection.execute(_DISABLE, {"webhook_id": owned.webhook_id}).rowcount:
        return
    with acting_as("dispatcher"):
        record_audit(
            connection,
            tenant_id=owned.tenant_id,
            action="webhook.disable",
            subject=str(owned.webhook_id),
            detail={"reason": "the endpoint answered 410", "delivery_id": str(owned.delivery_id)},
        )
    dedupe = (str(owned.webhook_id), str(owned.attempt_id))
    publish(
        connection,
        [EventDraft(owned.tenant_id, "webhook_disabled", dedupe, now, correlation_id=str(owned.webhook_id))],
        now,
    )
