-- Drift now: each template's mean of the last 7 days, beside the 7 days before and its usual 30.
with latest as (
    select distinct on (tenant_id, template_id) *
    from marts.drift_trends
    order by tenant_id asc, template_id asc, date desc
)

select
    latest.tenant_id,
    latest.template,
    latest.date as last_day,
    latest.drift_avg_7d,
    latest.drift_change_7d,
    latest.drift_avg_30d,
    latest.drift_p95_30d,
    latest.reliability_avg_7d,
    latest.evaluation_count_7d
from latest
-- A template that nobody has used for a month says nothing about now.
where latest.date > (now() at time zone 'utc')::date - 30
order by latest.drift_avg_7d desc nulls last
