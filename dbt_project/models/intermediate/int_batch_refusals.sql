{{ config(
    unique_key='rejected_id',
    indexes=[
        {'columns': ['rejected_id'], 'unique': true},
        {'columns': ['tenant_id', 'batch_key']},
        {'columns': ['fold_id']},
        {'columns': ['replayed_at']}
    ],
    pre_hook="{{ follow(['int_batches']) }}"
) }}

with batches as not materialized (
    select * from {{ ref('int_batches') }}
    where
        {{ in_new_folds() if is_incremental() else in_known_folds() }}
        and kind = 'evaluations'
        and rejected + conflicts > 0
),

refusals as not materialized (
    select * from {{ ref('stg_rejected_records') }}
),

concerned as (
    select refusals.*
    from batches
    inner join refusals on batches.batch_id = refusals.batch_id
    {% if is_incremental() %}
    union
    -- Landed after all since, with an hour for what committed late; its landing is in a batch of its own.
    select refusals.*
    from refusals
    inner join {{ this }} as known on refusals.rejected_id = known.rejected_id
    where
        refusals.replayed_at >= (
            select coalesce(max(newest.replayed_at) - interval '1 hour', '-infinity') from {{ this }} as newest
        )
        and known.replayed_at is null
    {% endif %}
),

final as (
    select
        rejected_id,
        tenant_id,
        batch_key,
        verdict,
        replayed_at,
        (select intermediate.fold_to('{{ this.identifier }}')) as fold_id
    from concerned
    where batch_key is not null
)

select * from final
