select
    tenant_id,
    batch_key,
    expected,
    checksum,
    declared_at
from {{ source('raw', 'batch_manifests') }}
