{{ config(
    unique_key=['tenant_id', 'date'],
    indexes=[{'columns': ['tenant_id', 'date'], 'unique': true}, {'columns': ['fold_id']}],
    pre_hook="{{ follow(['int_batches']) }}"
) }}

with batches as not materialized (
    select * from {{ ref('int_batches') }}
    where {{ in_new_folds() if is_incremental() else in_known_folds() }}
),

new_parts as (
    select
        received_on as date,
        tenant_id,
        count(*) as batch_count,
        coalesce(sum(accepted) filter (where kind = 'evaluations'), 0) as evaluation_count,
        coalesce(sum(accepted) filter (where kind = 'feedback'), 0) as feedback_count,
        sum(duplicates) as duplicate_count,
        sum(conflicts) as conflict_count,
        sum(rejected) as rejected_count,
        max(received_at) as last_received_at
    from batches
    group by received_on, tenant_id
),

parts as (
    select * from new_parts
    {% if is_incremental() %}
    union all
    select
        known.date,
        known.tenant_id,
        known.batch_count,
        known.evaluation_count,
        known.feedback_count,
        known.duplicate_count,
        known.conflict_count,
        known.rejected_count,
        known.last_received_at
    from new_parts
    inner join {{ this }} as known on new_parts.tenant_id = known.tenant_id and new_parts.date = known.date
    {% endif %}
),

final as (
    select
        date,
        tenant_id,
        sum(batch_count)::bigint as batch_count,
        sum(evaluation_count)::bigint as evaluation_count,
        sum(feedback_count)::bigint as feedback_count,
        sum(duplicate_count)::bigint as duplicate_count,
        sum(conflict_count)::bigint as conflict_count,
        sum(rejected_count)::bigint as rejected_count,
        max(last_received_at) as last_received_at,
        (select intermediate.fold_to('{{ this.identifier }}')) as fold_id
    from parts
    group by date, tenant_id
)

select * from final
