{{ config(
    unique_key='review_queue_id',
    indexes=[{'columns': ['tenant_id', 'status', 'created_at']}, {'columns': ['created_at']}],
    pre_hook="{{ follow(['int_reviews']) }}",
    post_hook="delete from {{ this }} where created_at < raw.dropped_before()::timestamp at time zone 'UTC'"
) }}

with reviews as not materialized (
    select * from {{ ref('int_reviews') }}
    {% if is_incremental() %}
    where {{ in_new_folds() }}
    {% endif %}
),

final as (
    select
        {{ surrogate_key(['tenant_id', 'evaluation_id']) }} as review_queue_id,
        evaluation_id,
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        drift_score,
        reliability_score,
        score,
        label,
        correlation_id,
        created_at,
        case when reviewed_at is null then 'open' else 'reviewed' end as status,
        reviewed_at,
        is_success
    from reviews
)

select * from final
