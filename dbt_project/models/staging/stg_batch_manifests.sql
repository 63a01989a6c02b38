select
    tenant_id,
    batch_key,
    expected,
    checksum,
    declared_at,
    declared_at + raw.manifest_grace() as due_at
from {{ source('raw', 'batch_manifests') }}
