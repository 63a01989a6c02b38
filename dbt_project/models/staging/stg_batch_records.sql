select
    batch_id,
    tenant_id,
    batch_key,
    created_at,
    (created_at at time zone 'UTC')::date as date,
    raw.record_checksum(record_id) as record_checksum
from {{ source('raw', 'evaluations') }}
where batch_key is not null
