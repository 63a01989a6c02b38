select
    posterior_id,
    tenant_id,
    template_id,
    template,
    extractor_vendor,
    extractor_model,
    alpha,
    beta,
    mean,
    lower,
    upper,
    p_best,
    success_count,
    failure_count,
    computed_at
from {{ source('ml', 'extractor_posteriors') }}
