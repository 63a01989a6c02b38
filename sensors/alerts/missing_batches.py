"""Declared batches that have not arrived: what the last build of `batch_reconciliation` says, one observation a tenant.

A tenant's observation is the worst of its batches: the largest share of one that is missing. Each build is judged once,
by when it was made; so an alert goes when the batches are complete, or older than the rule's maximum age.

Belongs here: holding that mart against the rule. Does not belong here: what is missing, and why (the mart).
"""

from collections.abc import Iterator
from datetime import datetime

from assets.evaluations.manifests import is_reconciled
from sensors.alerts.observations import longest_age, read_observations
from sensors.alerts.states import Observation
from storage.database import Connection

METRIC = "missing_share"

# Of a batch whose checksum differs at least one is missing, although their number is right.
_MISSING = """
with build as (
    select taken_at from intermediate.marks where model = 'batch_reconciliation'
),

incomplete as (
    select * from marts.batch_reconciliation
    where status in ('PARTIAL', 'MISSING') and declared_at >= %(now)s - %(longest_age)s
),

rules as (
    select senders.tenant_id, rule.value as threshold, rule.max_age
    from (select distinct incomplete.tenant_id from incomplete) as senders
    cross join lateral alerting.rules_for(senders.tenant_id, '') as rule
    where rule.event_type = 'evaluations_missing' and rule.enabled
),

missing as (
    select
        incomplete.tenant_id,
        incomplete.batch_key,
        incomplete.due_at,
        incomplete.expected_count,
        incomplete.missing_count,
        incomplete.reason,
        greatest(incomplete.missing_count, 1)::double precision / greatest(incomplete.expected_count, 1) as share,
        rules.threshold
    from incomplete
    inner join rules using (tenant_id)
    where incomplete.declared_at >= %(now)s - rules.max_age
),

tenants as (
    select
        tenant_id,
        max(share) as share,
        min(due_at) as due_at,
        sum(expected_count)::bigint as expected_count,
        (array_agg(batch_key order by share desc, due_at, batch_key))[1] as batch_key,
        jsonb_path_query_array(
            jsonb_agg(
                jsonb_build_object(
                    'batch_key', batch_key, 'expected', expected_count, 'missing', missing_count, 'reason', reason
                )
                order by share desc, due_at, batch_key
            ),
            '$[0 to 4]'
        ) as contributors
    from missing
    where share > threshold
    group by tenant_id
),

watched as (
    select tenant_id from tenants
    union
    select tenant_id from alerting.alerts
    where status in ('pending', 'firing') and event_type = 'evaluations_missing' and metric = %(metric)s
)

select
    watched.tenant_id,
    rule.event_type,
    %(metric)s as metric,
    '' as template,
    '' as extractor_vendor,
    '' as extractor_model,
    coalesce(tenants.share, 0) as value,
    rule.value as threshold,
    tenants.tenant_id is not null as breach,
    rule.severity,
    rule.clear_n,
    coalesce(tenants.due_at, build.taken_at) as starts,
    build.taken_at as ends,
    coalesce(tenants.expected_count, 0) as evaluation_count,
    tenants.batch_key as correlation_id,
    false as is_final,
    jsonb_build_object('rule', rule.basis, 'build', build.taken_at) as basis,
    coalesce(tenants.contributors, '[]') as contributors
from watched
cross join build
cross join lateral alerting.rules_for(watched.tenant_id, '') as rule
left join tenants on watched.tenant_id = tenants.tenant_id
where rule.event_type = 'evaluations_missing' and rule.enabled
order by watched.tenant_id
"""


def of_manifests(connection: Connection, now: datetime) -> Iterator[Observation]:
    """The tenants whose declared batches are not complete, or whose open alert the last build may end.

    The correlation id is the batch_key of the worst one.

    Args:
        connection: in UTC.
        now: against which the rules' maximum age is taken, aware.
    """
    age = longest_age(connection)
    if age is not None and is_reconciled(connection):
        yield from read_observations(
            connection, _MISSING, {"now": now, "longest_age": age, "metric": METRIC}, "finding"
        )
