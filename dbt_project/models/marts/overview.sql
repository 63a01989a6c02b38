with tenants as (
    select * from {{ ref('stg_tenants') }}
),

alerts as (
    select * from {{ ref('stg_alerts') }}
),

templates_daily as (
    select * from {{ ref('int_templates_daily') }}
),

evaluation_totals as (
    select
        tenant_id,
        sum(evaluation_count)::bigint as total_evaluations,
        coalesce(sum(evaluation_count) filter (where date = (now() at time zone 'UTC')::date), 0)::bigint
            as evaluations_today,
        {{ mean_of('sum(drift_sum)', 'sum(drift_count)') }} as avg_drift_score,
        {{ mean_of('sum(reliability_sum)', 'sum(reliability_count)') }} as avg_reliability_score,
        count(distinct template_id) as template_count,
        min(date) as first_date,
        max(date) as last_date
    from templates_daily
    group by tenant_id
),

alert_totals as (
    select
        tenant_id,
        count(*) as alert_count,
        count(*) filter (where status = 'firing') as firing_alert_count
    from alerts
    group by tenant_id
),

final as (
    select
        tenants.tenant_id,
        coalesce(evaluation_totals.total_evaluations, 0) as total_evaluations,
        coalesce(evaluation_totals.evaluations_today, 0) as evaluations_today,
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
    left join alert_totals on tenants.tenant_id = alert_totals.tenant_id
)

select * from final
