select
    rejected_id,
    tenant_id,
    kind,
    verdict,
    batch_id,
    raw.batch_key_of(coalesce(record, payload)) as batch_key,
    replayed_at
from {{ source('raw', 'rejected_records') }}
