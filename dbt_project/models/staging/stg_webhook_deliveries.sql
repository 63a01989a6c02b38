select
    delivery_id,
    tenant_id,
    event_id,
    webhook_id,
    state,
    attempt_count,
    next_attempt_at,
    created_at,
    delivered_at,
    first_delivered_at
from {{ source('alerting', 'webhook_deliveries') }}
