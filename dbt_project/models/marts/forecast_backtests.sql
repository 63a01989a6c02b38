{{ config(
    unique_key='forecast_backtest_id',
    indexes=[{'columns': ['tenant_id', 'template_id']}],
    post_hook="
        delete from {{ this }}
        where (tenant_id, template_id, measure, method) not in (
            select tenant_id, template_id, measure, method from {{ ref('stg_forecast_backtests') }}
        )
    "
) }}

with backtests as not materialized (
    select * from {{ ref('stg_forecast_backtests') }}
),

final as (
    select
        {{ surrogate_key(['tenant_id', 'template_id', 'measure', 'method']) }} as forecast_backtest_id,
        tenant_id,
        template_id,
        template,
        measure,
        method,
        is_champion,
        days,
        pinball,
        coverage,
        nominal_coverage,
        days_judged,
        alarms,
        alarms_expected,
        computed_at
    from backtests
)

{{ changed_rows('final', [
    'forecast_backtest_id', 'tenant_id', 'template_id', 'template', 'measure', 'method', 'is_champion', 'days',
    'pinball', 'coverage', 'nominal_coverage', 'days_judged', 'alarms', 'alarms_expected', 'computed_at'
]) }}
