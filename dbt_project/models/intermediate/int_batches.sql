{{ config(
    full_refresh=false,
    incremental_strategy='append',
    pre_hook=["{{ join_by_index() }}", "{{ forget_horizon_of_another_server() }}"],
    indexes=[
        {'columns': ['batch_id'], 'unique': true},
        {'columns': ['fold_id', 'horizon']}
    ],
    post_hook="
        insert into intermediate.marks as mark (model, from_fold, to_fold, whole_fold, is_whole, taken_at)
        select 'int_batches', 0, coalesce(max(fold_id), 0), 0, false, now() from {{ this }}
        on conflict (model) do update set
            from_fold = mark.to_fold, to_fold = greatest(mark.to_fold, excluded.to_fold), taken_at = excluded.taken_at
    "
) }}

with batches as not materialized (
    select * from {{ ref('stg_ingest_batches') }}
),

{% if is_incremental() %}
newest_fold as (
    select
        fold_id,
        horizon
    from {{ this }}
    order by fold_id desc, horizon desc
    limit 1
),

-- What was under way when the last fold looked may have committed since, and its number is no smaller than the horizon
-- was. A horizon from the future is another server's: after a restore elsewhere, every batch is looked at again.
candidates as (
    select batches.*
    from batches
    where
        batches.xact_id >= coalesce(
            (
                select newest_fold.horizon
                from newest_fold
                where
                    newest_fold.horizon <= pg_snapshot_xmin(pg_current_snapshot())
                    and not {{ flags.FULL_REFRESH }}
            ),
            '0'
        )
),

unfolded as (
    select
        candidates.*,
        coalesce((select newest_fold.fold_id from newest_fold), 0) + 1 as fold_id
    from candidates
    where
        not exists (
            select 1 from {{ this }} as folded
            where folded.batch_id = candidates.batch_id
        )
),
{% else %}
unfolded as (
    select
        batches.*,
        1::bigint as fold_id
    from batches
),
{% endif %}

final as (
    select
        batch_id,
        tenant_id,
        kind,
        received_at,
        received_on,
        accepted,
        duplicates,
        conflicts,
        rejected,
        touched_days,
        fold_id::bigint as fold_id,
        pg_snapshot_xmin(pg_current_snapshot()) as horizon
    from unfolded
)

select * from final
