{{ config(unique_key='tenant_id') }}

-- Of the dimension and not of its source: a tenant made since is left to the next build.
with tenants as not materialized (
    select * from {{ ref('dim_tenants') }}
),

alerts as not materialized (
    select * from {{ ref('stg_alerts') }}
),

extractors as not materialized (
    select * from {{ ref('int_extractor_totals') }}
),

templates_daily as not materialized (
    select * from {{ ref('int_templates_daily') }}
),

evaluation_totals as (
    select
        tenant_id,
        sum(evaluation_count)::bigint as total_evaluations,
        {{ mean_of('sum(drift_sum)', 'sum(drift_count)') }} as avg_drift_score,
        {{ mean_of('sum(reliability_sum)', 'sum(reliability_count)') }} as avg_reliability_score,
        count(distinct template_id) as template_count,
        min(first_date) as first_date,
        max(last_date) as last_date
    from extractors
    group by tenant_id
),

today as (
    select
        tenant_id,
        sum(evaluation_count)::bigint as evaluations_today
    from templates_daily
    where date = (now() at time zone 'UTC')::date
    group by tenant_id
),

alert_totals as (
    select
        tenant_id,
        count(*) filter (where status <> 'pending') as alert_count,
        count(*) filter (where status = 'firing') as firing_alert_count
    from alerts
    group by tenant_id
),

final as (
    select
        tenants.tenant_id,
        coalesce(evaluation_totals.total_evaluations, 0) as total_evaluations,
        coalesce(today.evaluations_today, 0) as evaluations_today,
        evaluation_totals.avg_drift_score,
        evaluation_totals.avg_reliability_score,
        coalesce(evaluation_totals.template_count, 0) as template_count,
        coalesce(alert_totals.alert_count, 0) as alert_count,
        coalesce(alert_totals.firing_alert_count, 0) as firing_alert_count,
        (now() at time zone 'UTC')::date as today,
        evaluation_totals.first_date,
        evaluation_totals.last_date
    from tenants
    left join evaluation_totals on tenants.tenant_id = evaluation_totals.tenant_id
    left join today on tenants.tenant_id = today.tenant_id
    left join alert_totals on tenants.tenant_id = alert_totals.tenant_id
)

{{ changed_rows('final', [
    'tenant_id', 'total_evaluations', 'evaluations_today', 'avg_drift_score', 'avg_reliability_score',
    'template_count', 'alert_count', 'firing_alert_count', 'today', 'first_date', 'last_date'
]) }}
