select
    batch_id,
    tenant_id,
    kind,
    door,
    source,
    received_at,
    (received_at at time zone 'UTC')::date as received_on,
    xact_id,
    accepted,
    duplicates,
    conflicts,
    rejected,
    touched_days
from {{ source('raw', 'ingest_batches') }}
