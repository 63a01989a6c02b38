{{ config(
    unique_key='extractor_performance_id',
    indexes=[{'columns': ['tenant_id', 'template_id']}],
    pre_hook="{{ follow(['int_extractor_totals']) }}"
) }}

with extractors as not materialized (
    select * from {{ ref('int_extractor_totals') }}
    {% if is_incremental() %}
    where {{ in_new_folds() }}
    {% endif %}
),

final as (
    select
        {{ surrogate_key(['tenant_id', 'template_id', 'extractor_vendor', 'extractor_model']) }}
            as extractor_performance_id,
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        success_count,
        failure_count,
        feedback_count,
        fields_correct,
        fields_total,
        evaluation_count,
        greatest(last_evaluated_at, last_feedback_at) as updated_at
    from extractors
)

select * from final
