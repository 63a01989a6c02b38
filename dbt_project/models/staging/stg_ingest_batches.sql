select
    batch_id,
    tenant_id,
    kind,
    door,
    source,
    received_at,
    xact_id,
    accepted,
    duplicates,
    conflicts,
    rejected
from {{ source('raw', 'ingest_batches') }}
