with extractors as (
    select * from {{ ref('int_extractor_totals') }}
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
