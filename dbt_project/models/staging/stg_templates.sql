select
    template_id,
    tenant_id,
    template,
    first_seen_at
from {{ source('access', 'templates') }}
