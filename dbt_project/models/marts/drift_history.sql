{{ config(indexes=[{'columns': ['tenant_id', 'template_id', 'date']}, {'columns': ['tenant_id', 'date']}]) }}

with templates_daily as (
    select * from {{ ref('int_templates_daily') }}
),

final as (
    select
        {{ surrogate_key(['date', 'tenant_id', 'template_id']) }} as drift_history_id,
        date,
        tenant_id,
        template_id,
        template,
        {{ mean_of('drift_sum', 'drift_count') }} as drift_score,
        {{ mean_of('reliability_sum', 'reliability_count') }} as reliability_score,
        evaluation_count,
        drift_count,
        {{ stddev_of('drift_count', 'drift_sum', 'drift_sum_sq') }} as drift_stddev,
        drift_min,
        drift_max,
        reliability_count,
        {{ stddev_of('reliability_count', 'reliability_sum', 'reliability_sum_sq') }} as reliability_stddev,
        reliability_min,
        reliability_max
    from templates_daily
)

select * from final
