{{ config(
    unique_key='tenant_usage_id',
    indexes=[{'columns': ['tenant_id', 'date']}],
    pre_hook="{{ follow(['int_usage_daily']) }}"
) }}

with usage as not materialized (
    select * from {{ ref('int_usage_daily') }}
    {% if is_incremental() %}
    where {{ in_new_folds() }}
    {% endif %}
),

final as (
    select
        {{ surrogate_key(['date', 'tenant_id']) }} as tenant_usage_id,
        date,
        tenant_id,
        batch_count,
        evaluation_count,
        feedback_count,
        duplicate_count,
        conflict_count,
        rejected_count,
        last_received_at
    from usage
)

select * from final
