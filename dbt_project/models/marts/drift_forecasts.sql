{{ config(
    unique_key='drift_forecast_id',
    indexes=[{'columns': ['tenant_id', 'template_id', 'date']}, {'columns': ['computed_at']}],
    pre_hook="{{ join_by_index() }}"
) }}

with forecasts as not materialized (
    select * from {{ ref('stg_drift_forecasts') }}
    {% if is_incremental() %}
    -- One writer stores all forecasts in one transaction, so none older than the newest one here appears later. The
    -- hour is for a clock that was set back.
    where
        computed_at >= (
            select coalesce(max(stored.computed_at) - interval '1 hour', '-infinity') from {{ this }} as stored
        )
    {% endif %}
),

final as (
    select
        forecast_id as drift_forecast_id,
        date,
        tenant_id,
        template_id,
        template,
        yhat,
        yhat_lower as lower,
        yhat_upper as upper,
        actual,
        evaluation_count,
        is_anomaly,
        method,
        fitted_from,
        fitted_to,
        fitted_days,
        model_id,
        computed_at
    from forecasts
)

select * from final
