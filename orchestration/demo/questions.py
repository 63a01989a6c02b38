"""The questions that find what is planted: SQL over marts, alerts, models and raw tables, as an analyst would write it.

Each is an aggregate or a list; parameters are named. Does not belong here: what counts as found (`planted`).
"""

ALERTED_TEMPLATES = """
select distinct template
from alerting.alerts
where tenant_id = %(tenant_id)s and event_type = %(event_type)s
"""

MEAN_DRIFT = """
select sum(drift_score * drift_count) / sum(drift_count)
from marts.drift_history
where tenant_id = %(tenant_id)s and template = %(template)s and date between %(first)s and %(last)s
"""

ANOMALOUS_DAYS = """
select date
from ml.drift_forecasts
where
    tenant_id = %(tenant_id)s and template = %(template)s and measure = 'drift'
    and date between %(first)s and %(last)s and is_anomaly
order by date
"""

SUCCESS_RATES = """
select
    extractor_model,
    sum(success_count)::double precision / sum(success_count + failure_count) as success_rate
from marts.extractor_performance
where tenant_id = any(%(tenant_ids)s) and extractor_vendor = %(vendor)s and success_count + failure_count > 0
group by extractor_model
"""

POSTERIORS_APART = """
select count(*) filter (where new.upper < old.lower), count(*)
from marts.extractor_recommendations as new
inner join marts.extractor_recommendations as old
    on old.tenant_id = new.tenant_id
    and old.template_id = new.template_id
    and old.extractor_vendor = new.extractor_vendor
where new.tenant_id = any(%(tenant_ids)s) and new.extractor_model = %(new)s and old.extractor_model = %(old)s
"""

TEMPLATE_DAYS = """
select min(date), count(*)
from marts.drift_history
where tenant_id = %(tenant_id)s and template = %(template)s
"""

REFUSED_PAYLOADS = """
select count(*), count(distinct code)
from raw.rejected_records
where tenant_id = %(tenant_id)s and verdict = 'rejected' and payload = any(%(payloads)s)
"""

TIMES_STORED = """
select count(*), count(distinct record_id)
from raw.evaluations
where tenant_id = %(tenant_id)s and record_id = any(%(record_ids)s)
"""

DUPLICATES_ANSWERED = """
select coalesce(sum(duplicates), 0)
from raw.ingest_batches
where tenant_id = %(tenant_id)s and kind = 'evaluations'
"""

FIRST_CONTENT_STANDS = """
select count(*)
from raw.evaluations
where tenant_id = %(tenant_id)s and record_id = any(%(record_ids)s) and drift_score <> %(later_drift)s
"""

CONFLICTS_KEPT = """
select count(*)
from raw.rejected_records
where
    tenant_id = %(tenant_id)s and verdict = 'conflict'
    and convert_from(payload, 'UTF8')::jsonb ->> 'record_id' = any(%(record_ids)s)
"""

LATE_DAY = """
select
    (
        select count(*) from raw.evaluations
        where
            tenant_id = %(tenant_id)s and template = %(template)s
            and created_at >= %(date)s and created_at < %(date)s + 1
    ),
    (
        select evaluation_count from marts.drift_history
        where tenant_id = %(tenant_id)s and template = %(template)s and date = %(date)s
    )
"""
