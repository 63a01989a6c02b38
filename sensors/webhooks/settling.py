"""Results: what came back, written on attempts, deliveries and endpoints, many in one transaction.

Belongs here: the SQL of results, and telling the operator when an endpoint is disabled or held back. Does not belong
here: what an answer means (`schedule`, `breaker`), claiming (`claims`).
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal
from uuid import UUID

import structlog
from psycopg import sql
from psycopg.rows import class_row

from sensors.outbox import EventDraft, MetricPart, publish
from sensors.webhooks.breaker import Endpoint, Seen, after
from sensors.webhooks.claims import Claim
from sensors.webhooks.parking import park, sweep
from sensors.webhooks.schedule import GONE, asked_for, next_attempt, verdict
from sensors.webhooks.transport import Answer
from storage.audit import acting_as, record_audit
from storage.database import Connection

_log = structlog.get_logger()

_FINISH_ATTEMPTS = """
update alerting.delivery_attempts as attempts
set finished_at = %(now)s, status_code = results.status_code, error = results.error, response = results.response
from unnest(%(attempt_ids)s::uuid [], %(status_codes)s::integer [], %(errors)s::text [], %(responses)s::bytea [])
    as results (attempt_id, status_code, error, response)
where attempts.attempt_id = results.attempt_id
"""

# Locked in one order, so that two who settle the same rows wait for one another and not in a circle.
_FINISH_DELIVERIES = """
with results as (
    select * from unnest(
        %(delivery_ids)s::uuid [], %(fences)s::bigint [], %(states)s::text [], %(due_at)s::timestamptz [],
        %(unspent)s::integer []
    ) as results (delivery_id, fence, state, due_at, unspent)
),

standing as (
    select deliveries.delivery_id
    from alerting.webhook_deliveries as deliveries
    inner join results on deliveries.delivery_id = results.delivery_id and deliveries.fence = results.fence
    where deliveries.state = 'in_flight'
    order by deliveries.delivery_id
    for update of deliveries
)

update alerting.webhook_deliveries as deliveries
set
    state = results.state,
    next_attempt_at = coalesce(results.due_at, deliveries.next_attempt_at),
    delivered_at = case when results.state = 'delivered' then %(now)s end,
    first_delivered_at =
        coalesce(deliveries.first_delivered_at, case when results.state = 'delivered' then %(now)s end),
    attempt_count = deliveries.attempt_count - results.unspent,
    lease_until = null
from results
where
    deliveries.delivery_id = results.delivery_id
    and deliveries.delivery_id in (select standing.delivery_id from standing)
returning deliveries.delivery_id
"""

# Of an endpoint that is well and answered well there is nothing to change, so its row isn't touched.
_LOCK_ENDPOINTS = sql.SQL("""
select {standing} from alerting.webhooks
where
    webhook_id = any(%(ids)s)
    and (webhook_id = any(%(failing)s) or failures > 0 or breaker <> 'closed')
order by webhook_id
for no key update
""").format(
    standing=sql.SQL(", ").join(
        sql.Identifier("webhooks", field.name) for field in fields(Endpoint) if field.name != "in_flight"
    )
)

_SAVE_ENDPOINT = """
update alerting.webhooks
set
    breaker = %(breaker)s,
    breaker_until = %(breaker_until)s,
    breaker_reason = %(breaker_reason)s,
    failures = %(failures)s,
    trips = %(trips)s,
    failing_since = %(failing_since)s,
    told_at = %(told_at)s
where webhook_id = %(webhook_id)s
"""

_DISABLE = """
update alerting.webhooks set status = 'disabled' where webhook_id = %(webhook_id)s and status in ('active', 'paused')
"""

Outcome = Literal["delivered", "retry", "failed"]


@dataclass(frozen=True)
class Result:
    """What one request came to, and when."""

    owned: Claim
    answer: Answer


@dataclass(frozen=True)
class _Judged:
    result: Result
    outcome: Outcome
    due_at: datetime | None
    seen: Seen


def settle(
    connection: Connection, results: Sequence[Result], now: datetime, jitter: random.Random
) -> Sequence[Outcome | None]:
    """Write results, in the order in which they came; commits by itself, or with the caller's transaction.

    An attempt gets its result always, a delivery and its endpoint only if the claim still stands. 410 is the endpoint's
    wish to be left alone: it is disabled. Of that, and of a breaker that opens, the tenant's other endpoints are told.

    Returns:
        What became of each delivery; None where the claim no longer stood.
    """
    judged = [_judge(result, now, jitter) for result in results]
    with connection.transaction():
        # Before deliveries, as whoever deletes an endpoint takes it: else each would wait for what the other has.
        endpoints = _lock_endpoints(connection, judged)
        connection.execute(_FINISH_ATTEMPTS, _attempts(results, now))
        standing = {row[0] for row in connection.execute(_FINISH_DELIVERIES, _deliveries(judged, now))}
        stands = [one for one in judged if one.result.owned.delivery_id in standing]
        _settle_endpoints(connection, endpoints, stands, now)
    return [one.outcome if one.result.owned.delivery_id in standing else None for one in judged]


def _judge(result: Result, now: datetime, jitter: random.Random) -> _Judged:
    owned, answer = result.owned, result.answer
    said = verdict(answer.status_code)
    seen = Seen(said, _reason(answer), asked_for(answer.status_code, answer.retry_after, now))
    if said == "delivered":
        return _Judged(result, "delivered", None, seen)
    if answer.stale:
        return _Judged(result, "retry", now, seen)
    due_at = None
    if said != "gone":
        due_at = next_attempt(owned.retry_profile, owned.attempt, answer.status_code, answer.retry_after, now, jitter)
    return _Judged(result, "retry" if due_at else "failed", due_at, seen)


def _reason(answer: Answer) -> str:
    return f"it answered {answer.status_code}" if answer.status_code is not None else answer.error or "no answer"


def _attempts(results: Sequence[Result], now: datetime) -> Mapping[str, object]:
    return {
        "now": now,
        "attempt_ids": [result.owned.attempt_id for result in results],
        "status_codes": [result.answer.status_code for result in results],
        "errors": [result.answer.error for result in results],
        "responses": [result.answer.response for result in results],
    }


def _deliveries(judged: Sequence[_Judged], now: datetime) -> Mapping[str, object]:
    return {
        "now": now,
        "delivery_ids": [one.result.owned.delivery_id for one in judged],
        "fences": [one.result.owned.fence for one in judged],
        "states": [one.outcome for one in judged],
        "due_at": [one.due_at for one in judged],
        "unspent": [int(one.result.answer.stale) for one in judged],
    }


def _lock_endpoints(connection: Connection, judged: Sequence[_Judged]) -> Sequence[Endpoint]:
    told = [one for one in judged if not one.result.answer.stale]
    values = {
        "ids": [one.result.owned.webhook_id for one in told],
        "failing": [one.result.owned.webhook_id for one in told if one.outcome != "delivered"],
    }
    with connection.cursor(row_factory=class_row(Endpoint)) as cursor:
        return cursor.execute(_LOCK_ENDPOINTS, values).fetchall()


def _settle_endpoints(
    connection: Connection, endpoints: Sequence[Endpoint], judged: Sequence[_Judged], now: datetime
) -> None:
    by_endpoint: dict[UUID, list[_Judged]] = defaultdict(list)
    for one in judged:
        # A kept connection that had ended tells nothing of the endpoint.
        if not one.result.answer.stale:
            by_endpoint[one.result.owned.webhook_id].append(one)
    for endpoint in endpoints:
        ones = by_endpoint[endpoint.webhook_id]
        changed, tell = after(endpoint, [one.seen for one in ones], now)
        if changed != endpoint:
            connection.execute(_SAVE_ENDPOINT, vars(changed))
        if changed.breaker != endpoint.breaker:
            # At once and not with the next claim or sweep: what people see is how it stands.
            park(connection, [endpoint.webhook_id], now) if changed.is_parked(now) else sweep(connection, now)
        gone = next((one for one in ones if one.seen.verdict == "gone"), None)
        if gone is not None:
            _disable(connection, gone.result, now)
        elif tell:
            _tell_opened(connection, changed, ones, now)


def _disable(connection: Connection, result: Result, now: datetime) -> None:
    owned = result.owned
    if not connection.execute(_DISABLE, {"webhook_id": owned.webhook_id}).rowcount:
        return
    detail = {"reason": "the endpoint answered 410", "delivery_id": str(owned.delivery_id)}
    _record(connection, owned.tenant_id, owned.webhook_id, "disable", detail)
    _tell(connection, owned, MetricPart("http_status", float(GONE)), now)


def _tell_opened(connection: Connection, endpoint: Endpoint, ones: Sequence[_Judged], now: datetime) -> None:
    last = next(one for one in reversed(ones) if one.outcome != "delivered")
    status = last.result.answer.status_code
    metric = MetricPart("consecutive_failures", float(endpoint.failures))
    if last.seen.verdict == "misconfigured" and status is not None:
        metric = MetricPart("http_status", float(status))
    detail = {"reason": endpoint.breaker_reason, "until": str(endpoint.breaker_until)}
    _record(connection, endpoint.tenant_id, endpoint.webhook_id, "hold_back", detail)
    _tell(connection, last.result.owned, metric, now)
    _log.warning(
        "webhook endpoint held back: its breaker is open",
        tenant=endpoint.tenant_id,
        webhook_id=str(endpoint.webhook_id),
        reason=endpoint.breaker_reason,
        until=str(endpoint.breaker_until),
    )


def _record(
    connection: Connection, tenant_id: str, webhook_id: UUID, action: str, detail: Mapping[str, object]
) -> None:
    with acting_as("dispatcher"):
        record_audit(
            connection, tenant_id=tenant_id, action=f"webhook.{action}", subject=str(webhook_id), detail=detail
        )


def _tell(connection: Connection, owned: Claim, metric: MetricPart, now: datetime) -> None:
    dedupe = (str(owned.webhook_id), str(owned.attempt_id))
    draft = EventDraft(
        owned.tenant_id, "webhook_disabled", dedupe, now, metric=metric, correlation_id=str(owned.webhook_id)
    )
    publish(connection, [draft], now, except_webhook=owned.webhook_id)
