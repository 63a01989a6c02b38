{{ config(
    unique_key='batch_reconciliation_id',
    indexes=[{'columns': ['tenant_id', 'declared_at']}, {'columns': ['tenant_id', 'batch_key']}],
    pre_hook="{{ follow(['int_batch_keys']) }}"
) }}

with known_tenants as not materialized (
    select tenant_id from {{ ref('dim_tenants') }}
),

manifests as not materialized (
    select * from {{ ref('stg_batch_manifests') }}
    -- Of a tenant made since dim_tenants was: left to the next build.
    where tenant_id in (select known_tenants.tenant_id from known_tenants)
),

batch_keys as not materialized (
    select * from {{ ref('int_batch_keys') }}
),

-- Looked at again: what was declared since the last build, with an hour for declarations that committed late, and what
-- has landed more of since.
concerned as (
    {% if is_incremental() %}
    select * from manifests
    where
        declared_at >= (
            select coalesce(max(known.declared_at) - interval '1 hour', '-infinity') from {{ this }} as known
        )
    union
    select manifests.*
    from batch_keys
    inner join manifests on batch_keys.tenant_id = manifests.tenant_id and batch_keys.batch_key = manifests.batch_key
    where {{ in_new_folds('batch_keys.fold_id') }}
    {% else %}
    select * from manifests
    {% endif %}
),

landed as (
    select
        concerned.tenant_id,
        concerned.batch_key,
        sum(batch_keys.landed_count)::bigint as landed_count,
        min(batch_keys.first_landed_at) as first_landed_at,
        max(batch_keys.last_landed_at) as last_landed_at
    from concerned
    inner join batch_keys on concerned.tenant_id = batch_keys.tenant_id and concerned.batch_key = batch_keys.batch_key
    group by concerned.tenant_id, concerned.batch_key
),

counted as (
    select
        concerned.*,
        coalesce(landed.landed_count, 0) as landed_count,
        landed.first_landed_at,
        landed.last_landed_at
    from concerned
    left join landed on concerned.tenant_id = landed.tenant_id and concerned.batch_key = landed.batch_key
),

final as (
    select
        {{ surrogate_key(['tenant_id', 'batch_key']) }} as batch_reconciliation_id,
        tenant_id,
        batch_key,
        declared_at,
        expected as expected_count,
        landed_count,
        greatest(expected - landed_count, 0) as missing_count,
        greatest(landed_count - expected, 0) as surplus_count,
        case
            when landed_count >= expected then 'COMPLETE'
            when landed_count > 0 then 'PARTIAL'
            else 'MISSING'
        end as status,
        first_landed_at,
        last_landed_at
    from counted
)

select * from final
