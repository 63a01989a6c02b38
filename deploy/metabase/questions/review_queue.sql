-- Review queue: what waits for a human, the longest waiting first.
select
    created_at,
    extract(epoch from now() - created_at) / 3600 as hours_waiting,
    tenant_id,
    template,
    extractor_vendor,
    extractor_model,
    drift_score,
    reliability_score,
    score,
    label,
    evaluation_id,
    correlation_id
from marts.review_queue
where status = 'open'
order by created_at
