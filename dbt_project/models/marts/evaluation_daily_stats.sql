{{ config(indexes=[{'columns': ['tenant_id', 'date']}]) }}

with evaluations as (
    select * from {{ ref('int_evaluations_daily') }}
),

by_decision as (
    select
        date,
        tenant_id,
        template_id,
        template,
        decision,
        sum(evaluation_count)::bigint as count,
        sum(drift_count) as drift_count,
        sum(drift_sum) as drift_sum,
        sum(reliability_count) as reliability_count,
        sum(reliability_sum) as reliability_sum
    from evaluations
    group by date, tenant_id, template_id, template, decision
),

final as (
    select
        {{ surrogate_key(['date', 'tenant_id', 'template_id', 'decision']) }} as evaluation_daily_stats_id,
        date,
        tenant_id,
        template_id,
        template,
        decision,
        count,
        {{ mean_of('drift_sum', 'drift_count') }} as avg_drift,
        {{ mean_of('reliability_sum', 'reliability_count') }} as avg_reliability
    from by_decision
)

select * from final
