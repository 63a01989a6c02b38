"""The marts that a report reads, made and filled without dbt: as wide as a tenant of 2,000 templates can be."""

from collections.abc import Sequence
from datetime import date

from storage.database import Connection
from storage.tenants import create_tenant

AS_OF = date(2026, 5, 31)
MARTS = {
    "dim_tenants": "tenant_id text primary key, name text, created_at timestamptz",
    "overview": """tenant_id text primary key, total_evaluations bigint, evaluations_today bigint,
        avg_drift_score double precision, avg_reliability_score double precision, template_count bigint,
        alert_count bigint, firing_alert_count bigint, today date, first_date date, last_date date""",
    "evaluation_daily_stats": """evaluation_daily_stats_id text primary key, date date, tenant_id text,
        template_id uuid, template text, decision text, count bigint, avg_drift double precision,
        avg_reliability double precision""",
    "drift_history": """drift_history_id text primary key, date date, tenant_id text, template_id uuid,
        template text, drift_score double precision, reliability_score double precision, evaluation_count bigint""",
    "drift_trends": """drift_trends_id text primary key, date date, tenant_id text, template_id uuid, template text,
        evaluation_count bigint, drift_score double precision, reliability_score double precision,
        evaluation_count_7d bigint, drift_avg_7d double precision, drift_avg_30d double precision,
        drift_change_7d double precision, reliability_avg_7d double precision, reliability_avg_30d double precision,
        drift_p95_30d double precision""",
    "drift_forecasts": """drift_forecast_id uuid primary key, date date, tenant_id text, template_id uuid,
        template text, yhat double precision, lower double precision, upper double precision,
        actual double precision, evaluation_count bigint, is_anomaly boolean""",
    "extractor_recommendations": """extractor_recommendation_id text primary key, tenant_id text, template_id uuid,
        template text, extractor_vendor text, extractor_model text, is_recommended boolean, p_best double precision,
        mean double precision, lower double precision, upper double precision, alpha double precision,
        beta double precision, feedback_count bigint, success_count bigint, failure_count bigint,
        computed_at timestamptz""",
    "recent_alerts": """alert_id uuid primary key default gen_random_uuid(), tenant_id text, event_type text,
        status text, severity text, template_id uuid, template text, extractor_vendor text, extractor_model text,
        metric text, value double precision, threshold double precision, breach_count bigint,
        window_start timestamptz, window_end timestamptz, evaluation_id uuid, correlation_id text,
        started_at timestamptz, resolved_at timestamptz, seconds_to_resolve double precision, acked_at timestamptz,
        acked_by text""",
    "data_quality": """data_quality_id text primary key, date date, tenant_id text, evaluation_count bigint,
        drift_count bigint, reliability_count bigint, undecided_count bigint, late_count bigint,
        feedback_count bigint, drift_coverage double precision, reliability_coverage double precision,
        feedback_coverage double precision, batch_count bigint, rejected_count bigint, conflict_count bigint,
        duplicate_count bigint, rejected_share double precision""",
    "review_queue": """review_queue_id text primary key, evaluation_id uuid, tenant_id text, template_id uuid,
        template text, extractor_vendor text, extractor_model text, drift_score double precision,
        reliability_score double precision, score double precision, label text, correlation_id text,
        created_at timestamptz, status text, reviewed_at timestamptz, is_success boolean""",
}
# Numbers that look like a tenant's: every eleventh template is drifting away, the rest waver.
_NAMES = """
create temp table names on commit drop as
select %(tenant)s::text as tenant_id, template, number, md5(%(tenant)s || template)::uuid as template_id
from unnest(%(templates)s::text[]) with ordinality as given (template, number)
"""
_HISTORY = """
insert into marts.drift_history
select
    md5(template_id::text || day), day, tenant_id, template_id, template,
    least(0.98, 0.1 + 0.02 * (number %% 5) + 0.02 * sin(number * 7 + (day - %(since)s) * 2.1)
        + case when number %% 11 = 1 then greatest(0, day - %(as_of)s::date + 9) * 0.02 else 0 end),
    0.9 - 0.01 * (number %% 4), 100 + number %% 37
from names, generate_series(%(since)s::date, %(as_of)s::date, interval '1 day') as given (at), date(at) as day
"""
_FROM_HISTORY = """
insert into marts.drift_trends
select
    drift_history_id, date, tenant_id, template_id, template, evaluation_count, drift_score, reliability_score,
    evaluation_count * 7, avg(drift_score) over week, avg(drift_score) over month,
    drift_score - lag(drift_score, 7) over history, reliability_score, reliability_score, max(drift_score) over month
from marts.drift_history
where tenant_id = %(tenant)s
window
    history as (partition by template_id order by date),
    week as (partition by template_id order by date rows 6 preceding),
    month as (partition by template_id order by date rows 29 preceding);
"""
_FORECASTS = """
insert into marts.drift_forecasts
select
    md5(names.template_id::text || day)::uuid, day, names.tenant_id, names.template_id, names.template, 0.14, 0.08,
    0.22, history.drift_score, coalesce(history.evaluation_count, 0), coalesce(history.drift_score > 0.22, false)
from names
cross join generate_series(%(as_of)s::date - 40, %(as_of)s::date + 7, interval '1 day') as given (at)
cross join date(at) as day
left join marts.drift_history as history on names.template_id = history.template_id and history.date = day
"""
_VOLUMES = """
insert into marts.evaluation_daily_stats
select
    md5(drift_history_id || decision), date, tenant_id, template_id, template, decision,
    evaluation_count * share / 10, drift_score, reliability_score
from marts.drift_history, (values ('accept', 7), ('review', 2), ('reject', 1)) as shares (decision, share)
where tenant_id = %(tenant)s
"""
_RECOMMENDATIONS = """
insert into marts.extractor_recommendations
select
    md5(template_id::text || place), tenant_id, template_id, template, %(vendor)s, %(model)s || place, place = 1,
    case place when 1 then 0.95 else 0.05 / 7 end, mean, greatest(0, mean - 0.01 * place - 0.03),
    least(1, mean + 0.01 * place + 0.03), 90, 10, 100 * place, 90 * place, 10 * place, %(as_of)s
from names, generate_series(1, 8) as place, round(0.95 - 0.03 * place - 0.0001 * number, 4) as mean
"""
_ALERTS = """
insert into marts.recent_alerts (tenant_id, event_type, status, severity, template_id, template, extractor_vendor,
    extractor_model, metric, value, threshold, breach_count, started_at, resolved_at, acked_at)
select
    tenant_id, 'drift_high', status, 'warning', template_id, template, %(vendor)s, %(model)s, 'drift_score', 0.41, 0.3,
    number, %(as_of)s - number * interval '1 hour', case status when 'resolved' then %(as_of)s::timestamptz end,
    case when number %% 3 = 0 then %(as_of)s::timestamptz end
from names, (select case when n %% 2 = 0 then 'firing' else 'resolved' end as status, n from
    generate_series(1, 2) as n) as states
"""
_QUALITY = """
insert into marts.data_quality
select
    md5(tenant_id || date), date, tenant_id, sum(evaluation_count), sum(evaluation_count), sum(evaluation_count), 0, 3,
    7, 1, 0.9, 0.07, 4, 2, 0, 1, 0.01
from marts.drift_history
where tenant_id = %(tenant)s
group by tenant_id, date
"""
_REVIEWS = """
insert into marts.review_queue
select
    md5(template_id::text), md5(template || number)::uuid, tenant_id, template_id, template, %(vendor)s, %(model)s,
    0.31, 0.7, null, 'high', null, %(as_of)s - number * interval '2 hours', 'open', null, null
from names
"""
_OVERVIEW = """
insert into marts.overview
select
    %(tenant)s, coalesce(sum(evaluation_count), 0), 0, avg(drift_score), avg(reliability_score),
    count(distinct template_id),
    (select count(*) from marts.recent_alerts where tenant_id = %(tenant)s),
    (select count(*) from marts.recent_alerts where tenant_id = %(tenant)s and status = 'firing'),
    %(as_of)s::date + 1, min(date), max(date)
from marts.drift_history
where tenant_id = %(tenant)s
"""
_FILL = (
    _HISTORY,
    _FROM_HISTORY,
    _FORECASTS,
    _VOLUMES,
    _RECOMMENDATIONS,
    _ALERTS,
    _QUALITY,
    _REVIEWS,
    _OVERVIEW,
)


def make_marts(connection: Connection) -> None:
    """The tables, each open to role api_reader for the rows of the tenant that is named in the transaction."""
    for mart, columns in MARTS.items():
        connection.execute(f"""
            create table marts.{mart} ({columns});
            grant select on marts.{mart} to api_reader;
            alter table marts.{mart} enable row level security;
            create policy named_tenant on marts.{mart} for select to api_reader
                using (tenant_id = (select access.api_tenant_id()))
        """)  # type: ignore[arg-type]


def fill_marts(
    connection: Connection,
    tenant: str,
    templates: Sequence[str] = (),
    *,
    name: str | None = None,
    vendor: str = "vendor",
    model: str = "model-",
    days: int = 45,
) -> None:
    """A tenant with these templates; without any, one that has yet to send its first evaluation."""
    values = {
        "tenant": tenant,
        "templates": list(templates),
        "vendor": vendor,
        "model": model,
        "as_of": AS_OF,
    }
    create_tenant(connection, tenant, name)
    with connection.transaction():
        connection.execute("insert into marts.dim_tenants values (%s, %s, now())", (tenant, name or tenant))
        connection.execute(_NAMES, values)
        for statement in _FILL:
            connection.execute(statement, values | {"since": date.fromordinal(AS_OF.toordinal() - days + 1)})
