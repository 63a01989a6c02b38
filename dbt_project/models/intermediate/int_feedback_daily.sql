with feedback as (
    select * from {{ ref('int_feedback_latest') }}
),

final as (
    select
        date,
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        decision,
        count(*) as feedback_count,
        count(*) filter (where is_success) as success_count,
        count(*) filter (where not is_success) as failure_count,
        coalesce(sum(fields_correct), 0) as fields_correct,
        coalesce(sum(fields_total), 0) as fields_total,
        max(feedback_at) as last_feedback_at
    from feedback
    group by date, tenant_id, template_id, template, extractor_vendor, extractor_model, decision
)

select * from final
