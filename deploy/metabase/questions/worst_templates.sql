-- Worst templates: by alerts that fire, then by drift of the last 30 days.
with recent as (
    select
        tenant_id,
        template,
        sum(evaluation_count) as evaluation_count,
        -- Days differ in size: a mean of daily means would weigh a quiet Sunday like a busy Monday.
        sum(drift_score * drift_count) / nullif(sum(drift_count), 0) as avg_drift_score,
        sum(reliability_score * reliability_count) / nullif(sum(reliability_count), 0) as avg_reliability_score,
        max(drift_p95) as worst_day_drift_p95
    from marts.drift_history
    where date > (now() at time zone 'utc')::date - 30
    group by tenant_id, template
),

alerts as (
    select
        tenant_id,
        template,
        count(*) filter (where status = 'firing') as firing_count,
        count(*) as alert_count
    from marts.recent_alerts
    -- What late data has undone was no fault of the template.
    where not is_retracted
    group by tenant_id, template
)

select
    recent.*,
    coalesce(alerts.firing_count, 0) as firing_count,
    coalesce(alerts.alert_count, 0) as alert_count
from recent
left join alerts
    on recent.tenant_id = alerts.tenant_id and recent.template = alerts.template
order by firing_count desc, recent.avg_drift_score desc nulls last
