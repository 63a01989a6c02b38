select
    webhook_id,
    tenant_id,
    -- The host alone: paths of some receivers are secrets.
    split_part(split_part(url, '://', 2), '/', 1) as endpoint,
    status,
    created_at
from {{ source('alerting', 'webhooks') }}
