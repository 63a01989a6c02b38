{{ config(
    meta={'dagster': {'ref': {'name': 'int_evaluations_daily'}}},
    description='Every landed evaluation within the horizon is counted once in the daily fact, in its own group.'
) }}

with evaluations as (
    select * from {{ ref('stg_evaluations') }}
),

batches as (
    select * from {{ ref('stg_ingest_batches') }}
),

later_batches as (
    {{ batches_beyond_horizon('int_evaluations_daily', 'batches') }}
),

landed as (
    select
        date,
        tenant_id,
        template_id,
        decision,
        count(*) as evaluation_count
    from evaluations
    where
        not exists (
            select 1 from later_batches
            where later_batches.batch_id = evaluations.batch_id
        )
    group by date, tenant_id, template_id, decision
),

counted as (
    select
        date,
        tenant_id,
        template_id,
        decision,
        sum(evaluation_count) as evaluation_count
    from {{ ref('int_evaluations_daily') }}
    group by date, tenant_id, template_id, decision
)

select
    landed.*,
    counted.evaluation_count as counted
from landed
full join counted
    on landed.date = counted.date
    and landed.tenant_id = counted.tenant_id
    and landed.template_id = counted.template_id
    and landed.decision = counted.decision
where coalesce(landed.evaluation_count, 0) <> coalesce(counted.evaluation_count, 0)
