-- Drift by day and template with the 30-day mean: a line chart, date across, one line a template.
select
    date,
    tenant_id,
    template,
    drift_score,
    drift_avg_30d,
    evaluation_count
from marts.drift_trends
where date > (now() at time zone 'utc')::date - 90
order by date, tenant_id, template
