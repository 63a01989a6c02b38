-- Data quality: by day, how complete the scores are, how late, and what was refused.
select
    date,
    tenant_id,
    evaluation_count,
    drift_coverage,
    reliability_coverage,
    feedback_coverage,
    late_count,
    undecided_count,
    rejected_count,
    conflict_count,
    duplicate_count,
    rejected_share
from marts.data_quality
where date > (now() at time zone 'utc')::date - 30
order by date desc, tenant_id asc
