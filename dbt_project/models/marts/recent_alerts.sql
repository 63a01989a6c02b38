{{ config(
    unique_key='alert_id',
    indexes=[{'columns': ['tenant_id', 'started_at']}],
    post_hook="
        delete from {{ this }}
        where
            status = 'resolved' and started_at < now() - interval '{{ var('recent_alert_days') }} days'
            -- Was pending and is no longer: it never fired.
            or status = 'pending' and alert_id not in (select stored.alert_id from {{ ref('stg_alerts') }} as stored)
    "
) }}

with alerts as not materialized (
    select * from {{ ref('stg_alerts') }}
),

-- Of the dimensions and not of their sources: who and what came since is left to the next build.
templates as not materialized (
    select * from {{ ref('dim_templates') }}
),

known_tenants as not materialized (
    select tenant_id from {{ ref('dim_tenants') }}
),

recent as (
    select *
    from alerts
    where
        (status <> 'resolved' or started_at >= now() - interval '{{ var("recent_alert_days") }} days')
        and tenant_id in (select known_tenants.tenant_id from known_tenants)
),

final as (
    select
        recent.alert_id,
        recent.tenant_id,
        recent.event_type,
        recent.status,
        recent.severity,
        templates.template_id,
        recent.template,
        recent.extractor_vendor,
        recent.extractor_model,
        recent.metric,
        recent.value,
        recent.threshold,
        recent.breach_count,
        recent.window_start,
        recent.window_end,
        recent.evaluation_id,
        recent.correlation_id,
        recent.started_at,
        recent.resolved_at,
        recent.resolved_because,
        extract(epoch from recent.resolved_at - recent.started_at)::double precision as seconds_to_resolve,
        recent.acked_at,
        recent.acked_by,
        extract(epoch from recent.acked_at - recent.started_at)::double precision as seconds_to_acknowledge,
        recent.is_retracted,
        recent.is_amended
    from recent
    left join templates on recent.tenant_id = templates.tenant_id and recent.template = templates.template
)

{{ changed_rows('final', [
    'alert_id', 'tenant_id', 'event_type', 'status', 'severity', 'template_id', 'template', 'extractor_vendor',
    'extractor_model', 'metric', 'value', 'threshold', 'breach_count', 'window_start', 'window_end',
    'evaluation_id', 'correlation_id', 'started_at', 'resolved_at', 'resolved_because', 'seconds_to_resolve',
    'acked_at', 'acked_by', 'seconds_to_acknowledge', 'is_retracted', 'is_amended'
]) }}
