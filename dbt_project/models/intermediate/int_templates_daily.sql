with evaluations as (
    select * from {{ ref('int_evaluations_daily') }}
),

final as (
    select
        date,
        tenant_id,
        template_id,
        template,
        sum(evaluation_count)::bigint as evaluation_count,
        sum(drift_count)::bigint as drift_count,
        sum(drift_sum) as drift_sum,
        sum(drift_sum_sq) as drift_sum_sq,
        min(drift_min) as drift_min,
        max(drift_max) as drift_max,
        sum(reliability_count)::bigint as reliability_count,
        sum(reliability_sum) as reliability_sum,
        sum(reliability_sum_sq) as reliability_sum_sq,
        min(reliability_min) as reliability_min,
        max(reliability_max) as reliability_max
    from evaluations
    group by date, tenant_id, template_id, template
)

select * from final
