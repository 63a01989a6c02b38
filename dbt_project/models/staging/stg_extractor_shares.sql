select
    snapshot_id,
    tenant_id,
    template_id,
    extractor_vendor,
    extractor_model,
    share_hi - share_lo as share,
    recorded_at
from {{ source('ml', 'extractor_shares') }}
