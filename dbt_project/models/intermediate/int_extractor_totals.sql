with evaluations as (
    select * from {{ ref('int_evaluations_daily') }}
),

feedback as (
    select * from {{ ref('int_feedback_daily') }}
),

evaluation_totals as (
    select
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        sum(evaluation_count)::bigint as evaluation_count,
        coalesce(sum(evaluation_count) filter (where decision = 'accept'), 0)::bigint as accept_count,
        coalesce(sum(evaluation_count) filter (where decision = 'review'), 0)::bigint as review_count,
        coalesce(sum(evaluation_count) filter (where decision = 'reject'), 0)::bigint as reject_count,
        sum(drift_count)::bigint as drift_count,
        sum(drift_sum) as drift_sum,
        sum(drift_sum_sq) as drift_sum_sq,
        sum(reliability_count)::bigint as reliability_count,
        sum(reliability_sum) as reliability_sum,
        sum(reliability_sum_sq) as reliability_sum_sq,
        min(date) as first_date,
        max(date) as last_date,
        max(last_evaluated_at) as last_evaluated_at
    from evaluations
    group by tenant_id, template_id, template, extractor_vendor, extractor_model
),

feedback_totals as (
    select
        tenant_id,
        template_id,
        extractor_vendor,
        extractor_model,
        sum(feedback_count)::bigint as feedback_count,
        sum(success_count)::bigint as success_count,
        sum(failure_count)::bigint as failure_count,
        sum(fields_correct)::bigint as fields_correct,
        sum(fields_total)::bigint as fields_total,
        max(last_feedback_at) as last_feedback_at
    from feedback
    group by tenant_id, template_id, extractor_vendor, extractor_model
),

final as (
    select
        evaluation_totals.*,
        feedback_totals.last_feedback_at,
        coalesce(feedback_totals.feedback_count, 0) as feedback_count,
        coalesce(feedback_totals.success_count, 0) as success_count,
        coalesce(feedback_totals.failure_count, 0) as failure_count,
        coalesce(feedback_totals.fields_correct, 0) as fields_correct,
        coalesce(feedback_totals.fields_total, 0) as fields_total
    from evaluation_totals
    left join feedback_totals
        on evaluation_totals.tenant_id = feedback_totals.tenant_id
        and evaluation_totals.template_id = feedback_totals.template_id
        and evaluation_totals.extractor_vendor = feedback_totals.extractor_vendor
        and evaluation_totals.extractor_model = feedback_totals.extractor_model
)

select * from final
