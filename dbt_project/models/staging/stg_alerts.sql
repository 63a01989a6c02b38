select
    alert_id,
    tenant_id,
    event_type,
    template,
    nullif(extractor_vendor, '') as extractor_vendor,
    nullif(extractor_model, '') as extractor_model,
    status,
    severity,
    metric,
    value,
    threshold,
    breach_count,
    window_start,
    window_end,
    evaluation_id,
    correlation_id,
    started_at,
    resolved_at,
    resolved_because,
    acked_at,
    acked_by,
    is_retracted,
    -- A retraction is the last of its revisions.
    revision > is_retracted::integer as is_amended
from {{ source('alerting', 'alerts') }}
-- What is ok was pending once and has never fired.
where status <> 'ok'
