-- Forecast against actual: filter one template, then a line chart of actual, yhat, lower and upper over date.
select
    date,
    tenant_id,
    template,
    actual,
    yhat,
    lower,
    upper,
    p_value,
    is_anomaly,
    p_crossing,
    method,
    model_version
from marts.drift_forecasts
where date > (now() at time zone 'utc')::date - 60
order by tenant_id, template, date
