{#- The forecasts of one measure, as both marts of forecasts show them. -#}
{%- macro forecasts_of(measure, key) -%}
with forecasts as not materialized (
    select * from {{ ref('stg_drift_forecasts') }}
    where
        measure = '{{ measure }}'
    {%- if is_incremental() %}
        -- One writer stores all forecasts in one transaction, so none older than the newest one here appears later. The
        -- hour is for a clock that was set back.
        and computed_at >= (
            select coalesce(max(stored.computed_at) - interval '1 hour', '-infinity') from {{ this }} as stored
        )
    {%- endif %}
),

final as (
    select
        forecast_id as {{ key }},
        date,
        tenant_id,
        template_id,
        template,
        yhat,
        yhat_lower as lower,
        yhat_upper as upper,
        actual,
        evaluation_count,
        p_value,
        is_anomaly,
        p_crossing,
        threshold,
        method,
        model_version,
        budget_weeks,
        fitted_from,
        fitted_to,
        fitted_days,
        model_id,
        computed_at
    from forecasts
)

select * from final
{%- endmacro -%}
