"""The SQL of a report: what is read of a tenant's marts, and as whom.

Belongs here: statements. Does not belong here: running them (tables.py).
"""

ONE_SNAPSHOT = "set transaction isolation level repeatable read, read only"
# The name of the tenant goes first: what follows runs with the rights of a role that sees this tenant's rows alone.
NAME_TENANT = "select set_config('tidemark.tenant_id', %(tenant_id)s, true)"
READ_AS_TENANT = "set local role api_reader"

READ_HEADLINE = """
select
    tenants.name, coalesce(overview.last_date, overview.today), overview.first_date, overview.last_date,
    overview.today, overview.evaluations_today, overview.total_evaluations, overview.avg_drift_score,
    overview.avg_reliability_score, overview.template_count, overview.alert_count, overview.firing_alert_count
from marts.overview as overview
inner join marts.dim_tenants as tenants on overview.tenant_id = tenants.tenant_id
where overview.tenant_id = %(tenant_id)s
"""
READ_VOLUMES = """
select date, decision, sum(count)::bigint
from marts.evaluation_daily_stats
where tenant_id = %(tenant_id)s and date between %(since)s and %(as_of)s
group by date, decision
order by date, decision
"""
READ_STANDINGS = """
with in_window as (
    select *
    from marts.drift_trends
    where tenant_id = %(tenant_id)s and date between %(since)s and %(as_of)s
),

newest as (
    select distinct on (template_id) * from in_window order by template_id, date desc
),

volumes as (
    select template_id, sum(evaluation_count)::bigint as evaluation_count from in_window group by template_id
),

breaches as (
    select template_id, count(*) as breach_count
    from marts.drift_forecasts
    where tenant_id = %(tenant_id)s and date between %(since)s and %(as_of)s and is_anomaly
    group by template_id
)

select
    count(*) over (), newest.template_id, newest.template, volumes.evaluation_count,
    coalesce(breaches.breach_count, 0) as breach_count, newest.date, newest.drift_score, newest.drift_avg_7d,
    newest.drift_change_7d, newest.drift_p95_30d, newest.reliability_avg_7d
from newest
inner join volumes on newest.template_id = volumes.template_id
left join breaches on newest.template_id = breaches.template_id
order by
    coalesce(breaches.breach_count, 0) desc, newest.drift_change_7d desc nulls last,
    newest.drift_avg_7d desc nulls last, newest.template_id
limit %(limit)s
"""
READ_DRIFT = """
select template_id, date, drift_score
from marts.drift_history
where
    tenant_id = %(tenant_id)s and template_id = any(%(templates)s)
    and date between %(history_since)s and %(as_of)s and drift_score is not null
order by template_id, date
"""
READ_FORECASTS = """
select template_id, date, yhat, lower, upper, actual, is_anomaly
from marts.drift_forecasts
where
    tenant_id = %(tenant_id)s and template_id = any(%(templates)s)
    and date between %(history_since)s and %(ahead_until)s
order by template_id, date
"""
# Templates with a choice first, and of those where the extractors' rates are furthest apart.
READ_CHOICES = """
select
    count(*) over (), template_id, min(template), count(*) as extractor_count
from marts.extractor_recommendations
where tenant_id = %(tenant_id)s
group by template_id
order by
    count(*) > 1 desc,
    max(mean) filter (where feedback_count > 0)
    - min(mean) filter (where feedback_count > 0) desc nulls last,
    sum(feedback_count) desc,
    template_id
limit %(limit)s
"""
READ_POSTERIORS = """
select
    extractor_vendor, extractor_model, is_recommended, p_best, mean, lower, upper, alpha, beta,
    feedback_count
from marts.extractor_recommendations
where tenant_id = %(tenant_id)s and template_id = %(template_id)s
order by p_best desc, mean desc, extractor_recommendation_id
limit %(limit)s
"""
READ_ALERTS = """
select
    count(*) over (), event_type, status, severity, template, extractor_vendor, extractor_model, metric, value,
    threshold, breach_count, started_at, resolved_at, acked_at
from marts.recent_alerts
where tenant_id = %(tenant_id)s
order by status = 'firing' desc, started_at desc, alert_id
limit %(limit)s
"""
READ_QUALITY = """
select
    date, evaluation_count, drift_coverage, reliability_coverage, feedback_coverage, undecided_count, late_count,
    rejected_count, duplicate_count, conflict_count
from marts.data_quality
-- No last day: what was refused is dated by its receipt, which may be long after the newest evaluation.
where tenant_id = %(tenant_id)s and date >= %(since)s
order by date desc
"""
READ_REVIEWS = """
select
    count(*) over (), template, extractor_vendor, extractor_model, drift_score, reliability_score, label, created_at,
    evaluation_id
from marts.review_queue
where tenant_id = %(tenant_id)s and status = 'open'
order by created_at, evaluation_id
limit %(limit)s
"""
