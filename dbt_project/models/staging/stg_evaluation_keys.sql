select
    record_key,
    tenant_id,
    evaluation_id,
    created_on
from {{ source('raw', 'evaluation_keys') }}
