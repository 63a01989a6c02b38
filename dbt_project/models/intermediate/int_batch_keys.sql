{{ config(
    unique_key=['tenant_id', 'batch_key', 'month'],
    indexes=[
        {'columns': ['tenant_id', 'batch_key', 'month'], 'unique': true},
        {'columns': ['fold_id']}
    ],
    pre_hook="{{ follow(['int_batches']) }}"
) }}

with batches as not materialized (
    select * from {{ ref('int_batches') }}
),

records as not materialized (
    select * from {{ ref('stg_batch_records') }}
),

arrived as (
    {{ arrived_evaluations('batches', 'records') }}
),

new_parts as (
    select
        tenant_id,
        batch_key,
        date_trunc('month', date)::date as month,
        count(*) as landed_count,
        bit_xor(record_checksum) as record_checksum,
        min(received_at) as first_landed_at,
        max(received_at) as last_landed_at
    from arrived
    group by tenant_id, batch_key, date_trunc('month', date)
),

parts as (
    select * from new_parts
    {% if was_built_before() %}
    union all
    select
        known.tenant_id,
        known.batch_key,
        known.month,
        known.landed_count,
        known.record_checksum,
        known.first_landed_at,
        known.last_landed_at
    {% if is_incremental() %}
    from new_parts
    inner join {{ this }} as known
        on new_parts.tenant_id = known.tenant_id
        and new_parts.batch_key = known.batch_key
        and new_parts.month = known.month
    {% else %}
    from {{ this }} as known
    where known.month < raw.dropped_before()
    {% endif %}
    {% endif %}
),

final as (
    select
        tenant_id,
        batch_key,
        month,
        sum(landed_count)::bigint as landed_count,
        case when count(*) = count(record_checksum) then bit_xor(record_checksum) end as record_checksum,
        min(first_landed_at) as first_landed_at,
        max(last_landed_at) as last_landed_at,
        (select intermediate.fold_to('{{ this.identifier }}')) as fold_id
    from parts
    group by tenant_id, batch_key, month
)

select * from final
