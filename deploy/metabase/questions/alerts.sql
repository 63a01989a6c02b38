-- Alerts: what fires first, then what was resolved, newest first.
select
    status,
    severity,
    started_at,
    event_type,
    tenant_id,
    template,
    extractor_vendor,
    extractor_model,
    metric,
    value,
    threshold,
    breach_count,
    resolved_at,
    seconds_to_resolve / 3600 as hours_to_resolve,
    acked_by,
    is_retracted
from marts.recent_alerts
order by (status = 'firing') desc, started_at desc
