select
    tenant_id,
    template_id,
    template,
    extractor_vendor,
    extractor_model,
    objective,
    changed_on,
    found_on,
    evidence_to,
    mean_before,
    mean_after,
    count_before,
    count_after,
    statistic,
    computed_at
from {{ source('ml', 'extractor_changes') }}
