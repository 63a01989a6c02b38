select
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
from {{ source('ml', 'forecast_backtests') }}
