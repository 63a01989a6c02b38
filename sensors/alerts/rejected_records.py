"""Senders whose records are refused: the share of rejected lines in a tenant's newest batches, from their receipts.

Each batch is judged together with the 19 before it, so that one bad line in a batch of its own is one of many and a
sender of small batches is judged as one of large ones. Receipts never change, so nothing here is ever undone.

Belongs here: holding receipts against the rule. Does not belong here: why a record is refused (`assets.evaluations`).
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from sensors.alerts.observations import longest_age, read_observations
from sensors.alerts.states import Observation
from storage.database import Connection

METRIC = "rejected_share"
BATCHES = 20

# A sender without rejected lines in what is new can't get worse: it is looked at only if its alert may end.
_REJECTED = """
with fresh as materialized (
    select receipts.*, batches.position
    from unnest(%(batch_ids)s::uuid[]) with ordinality as batches (batch_id, position)
    inner join raw.ingest_batches as receipts using (batch_id)
    where receipts.received_at >= %(now)s - %(longest_age)s
),

watched as (
    select tenant_id from fresh where rejected > 0
    union
    select tenant_id from alerting.alerts
    where event_type = 'records_rejected' and status in ('pending', 'firing')
),

rules as materialized (
    select watched.tenant_id, rule.*
    from watched
    cross join lateral alerting.rules_for(watched.tenant_id, '') as rule
    where rule.event_type = 'records_rejected' and rule.enabled
),

judged as (
    select
        fresh.position,
        fresh.xact_id,
        fresh.batch_id,
        fresh.correlation_id,
        rules.*,
        alerting.widest('above', rules.value, rules.bound) as threshold,
        newest.*,
        newest.rejected::double precision / newest.records as share
    from fresh
    inner join rules on fresh.tenant_id = rules.tenant_id
    cross join lateral (
        select
            min(batch.received_at) as starts,
            max(batch.received_at) as ends,
            sum(batch.rejected) as rejected,
            sum(batch.accepted + batch.duplicates + batch.conflicts + batch.rejected)::bigint as records,
            count(*) as batches,
            jsonb_agg(
                jsonb_build_object(
                    'batch_id', batch.batch_id, 'rejected', batch.rejected, 'door', batch.door,
                    'received_at', batch.received_at
                )
                order by batch.rejected desc, batch.received_at
            ) filter (where batch.rejected > 0) as contributors
        from (
            select * from raw.ingest_batches as earlier
            where
                earlier.kind = 'evaluations'
                and earlier.tenant_id = fresh.tenant_id
                and (earlier.xact_id, earlier.batch_id) <= (fresh.xact_id, fresh.batch_id)
                and earlier.received_at >= fresh.received_at - rules.max_age
            order by earlier.xact_id desc, earlier.batch_id desc
            limit %(batches)s
        ) as batch
    ) as newest
    where fresh.received_at >= %(now)s - rules.max_age and newest.records > 0
)

select
    tenant_id,
    event_type,
    %(metric)s as metric,
    '' as template,
    '' as extractor_vendor,
    '' as extractor_model,
    share as value,
    threshold,
    share > threshold as breach,
    share <= threshold and share > threshold + clear_gap as between,
    severity,
    for_n,
    clear_n,
    starts,
    ends,
    records as evaluation_count,
    correlation_id,
    jsonb_build_object(
        'rule', basis,
        'batches', batches,
        'until', jsonb_build_object('xact_id', xact_id::text, 'batch_id', batch_id)
    ) as basis,
    case when share > threshold then contributors else '[]' end as contributors
from judged
order by position
"""


def of_receipts(connection: Connection, batch_ids: Sequence[UUID], now: datetime) -> Iterator[Observation]:
    """The share of refused records after each batch of a sender that has any, or whose open alert it may end.

    The observation's count is of all records that were sent, not of those that became evaluations.

    Args:
        connection: in UTC.
        batch_ids: in the order of their transactions.
        now: against which the rule's maximum age is taken, aware.
    """
    age = longest_age(connection)
    if batch_ids and age is not None:
        parameters = {"batch_ids": list(batch_ids), "now": now, "longest_age": age, "metric": METRIC}
        yield from read_observations(connection, _REJECTED, parameters | {"batches": BATCHES}, "evaluation")
