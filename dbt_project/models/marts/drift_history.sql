{{ config(
    unique_key='drift_history_id',
    indexes=[{'columns': ['tenant_id', 'template_id', 'date']}, {'columns': ['tenant_id', 'date']}],
    pre_hook="{{ follow(['int_templates_daily']) }}"
) }}

with templates_daily as not materialized (
    select * from {{ ref('int_templates_daily') }}
    {% if is_incremental() %}
    where {{ in_new_folds() }}
    {% endif %}
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
        {{ quantile_of('drift', 0.5) }} as drift_p50,
        {{ quantile_of('drift', 0.95) }} as drift_p95,
        reliability_count,
        {{ stddev_of('reliability_count', 'reliability_sum', 'reliability_sum_sq') }} as reliability_stddev,
        reliability_min,
        reliability_max,
        {{ quantile_of('reliability', 0.05) }} as reliability_p05,
        {{ quantile_of('reliability', 0.5) }} as reliability_p50
    from templates_daily
)

select * from final
