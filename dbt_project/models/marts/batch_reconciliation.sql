{{ config(
    unique_key='batch_reconciliation_id',
    indexes=[
        {'columns': ['tenant_id', 'declared_at']},
        {'columns': ['tenant_id', 'batch_key']},
        {'columns': ['status', 'declared_at']}
    ],
    pre_hook="{{ follow(['int_batch_keys', 'int_batch_refusals']) }}"
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

refusals as not materialized (
    select * from {{ ref('int_batch_refusals') }}
),

-- Looked at again: what was declared since the last build, with an hour for declarations that committed late, what
-- has landed or was refused more of since, and what is still waited for.
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
    union
    select manifests.*
    from refusals
    inner join manifests on refusals.tenant_id = manifests.tenant_id and refusals.batch_key = manifests.batch_key
    where {{ in_new_folds('refusals.fold_id') }}
    union
    select manifests.*
    from {{ this }} as known
    inner join manifests on known.tenant_id = manifests.tenant_id and known.batch_key = manifests.batch_key
    where known.status = 'WAITING'
    {% else %}
    select * from manifests
    {% endif %}
),

landed as (
    select
        concerned.tenant_id,
        concerned.batch_key,
        sum(batch_keys.landed_count)::bigint as landed_count,
        case when count(*) = count(batch_keys.record_checksum) then bit_xor(batch_keys.record_checksum) end
            as record_checksum,
        min(batch_keys.first_landed_at) as first_landed_at,
        max(batch_keys.last_landed_at) as last_landed_at
    from concerned
    inner join batch_keys on concerned.tenant_id = batch_keys.tenant_id and concerned.batch_key = batch_keys.batch_key
    group by concerned.tenant_id, concerned.batch_key
),

refused as (
    select
        concerned.tenant_id,
        concerned.batch_key,
        count(*) filter (where refusals.verdict = 'rejected' and refusals.replayed_at is null) as rejected_count,
        count(*) filter (where refusals.verdict = 'conflict') as conflict_count
    from concerned
    inner join refusals on concerned.tenant_id = refusals.tenant_id and concerned.batch_key = refusals.batch_key
    group by concerned.tenant_id, concerned.batch_key
),

counted as (
    select
        concerned.*,
        case when concerned.checksum ~ '^[0-9a-f]{16}$' then concerned.checksum end as comparable_checksum,
        coalesce(landed.landed_count, 0) as landed_count,
        greatest(concerned.expected - coalesce(landed.landed_count, 0), 0) as missing_count,
        coalesce(refused.rejected_count, 0) as rejected_count,
        coalesce(refused.conflict_count, 0) as conflict_count,
        lpad(to_hex(case when landed.landed_count is null then 0 else landed.record_checksum end), 16, '0')
            as landed_checksum,
        landed.first_landed_at,
        landed.last_landed_at
    from concerned
    left join landed on concerned.tenant_id = landed.tenant_id and concerned.batch_key = landed.batch_key
    left join refused on concerned.tenant_id = refused.tenant_id and concerned.batch_key = refused.batch_key
),

judged as (
    select
        *,
        greatest(missing_count - rejected_count - conflict_count, 0) as never_sent_count,
        case
            when landed_count >= expected and coalesce(comparable_checksum = landed_checksum, true) then 'COMPLETE'
            when now() < due_at then 'WAITING'
            when landed_count > 0 then 'PARTIAL'
            else 'MISSING'
        end as status
    from counted
),

final as (
    select
        {{ surrogate_key(['tenant_id', 'batch_key']) }} as batch_reconciliation_id,
        tenant_id,
        batch_key,
        declared_at,
        due_at,
        expected as expected_count,
        landed_count,
        missing_count,
        greatest(landed_count - expected, 0) as surplus_count,
        rejected_count,
        conflict_count,
        never_sent_count,
        checksum as expected_checksum,
        landed_checksum,
        status,
        case
            when status = 'WAITING' then null
            when status = 'COMPLETE' and landed_count > expected then 'surplus'
            when status = 'COMPLETE' and last_landed_at > due_at then 'late'
            when status = 'COMPLETE' and checksum is not null and (comparable_checksum = landed_checksum) is null
                then 'checksum_not_compared'
            when status = 'COMPLETE' then null
            when missing_count = 0 then 'checksum_differs'
            -- What explains the most of it; of equals, what somebody can mend here.
            when rejected_count >= greatest(conflict_count, never_sent_count) then 'rejected'
            when conflict_count >= never_sent_count then 'conflict'
            else 'never_sent'
        end as reason,
        first_landed_at,
        last_landed_at
    from judged
)

select * from final
