{{ config(
    meta={'dagster': {'ref': {'name': 'int_feedback_daily'}}},
    description='Every evaluation whose feedback is known is counted once in the daily feedback, in its own group.'
) }}

with known as (
    select
        date,
        tenant_id,
        template_id,
        count(*) as feedback_count
    from {{ ref('int_feedback_latest') }}
    group by date, tenant_id, template_id
),

counted as (
    select
        date,
        tenant_id,
        template_id,
        sum(feedback_count) as feedback_count
    from {{ ref('int_feedback_daily') }}
    group by date, tenant_id, template_id
)

select
    known.*,
    counted.feedback_count as counted
from known
full join counted
    on known.date = counted.date
    and known.tenant_id = counted.tenant_id
    and known.template_id = counted.template_id
where coalesce(known.feedback_count, 0) <> coalesce(counted.feedback_count, 0)
