select
    webhook_id,
    tenant_id,
    url as endpoint,
    format,
    status,
    breaker,
    created_at
from {{ source('alerting', 'webhooks') }}
