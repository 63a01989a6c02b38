{{ config(
    unique_key=['tenant_id', 'template_id', 'extractor_vendor', 'extractor_model'],
    indexes=[
        {'columns': ['tenant_id', 'template_id', 'extractor_vendor', 'extractor_model'], 'unique': true},
        {'columns': ['fold_id']}
    ],
    pre_hook="{{ follow_increments(['int_evaluation_deltas', 'int_evaluations_daily']) }}"
) }}

-- depends_on: {{ ref('int_evaluation_deltas') }}
-- depends_on: {{ ref('int_evaluations_daily') }}
with additions as not materialized (
    select * from {{ ref('int_evaluation_deltas') if is_incremental() else ref('int_evaluations_daily') }}
    where {{ in_new_folds() if is_incremental() else in_known_folds() }}
),

{% if is_incremental() %}
touched as (
    select distinct
        tenant_id,
        template_id,
        extractor_vendor,
        extractor_model
    from additions
),
{% endif %}

parts as (
    select
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        evaluation_count,
        case when decision = 'accept' then evaluation_count else 0 end as accept_count,
        case when decision = 'review' then evaluation_count else 0 end as review_count,
        case when decision = 'reject' then evaluation_count else 0 end as reject_count,
        drift_count,
        drift_sum,
        drift_sum_sq,
        reliability_count,
        reliability_sum,
        reliability_sum_sq,
        feedback_count,
        success_count,
        failure_count,
        fields_correct,
        fields_total,
        last_feedback_at,
        -- Feedback alone is no evaluation of that day: it is there already, or it would have no group.
        date as first_date,
        date as last_date,
        last_evaluated_at
    from additions
    {% if is_incremental() %}
    union all
    select
        totals.tenant_id,
        totals.template_id,
        totals.template,
        totals.extractor_vendor,
        totals.extractor_model,
        totals.evaluation_count,
        totals.accept_count,
        totals.review_count,
        totals.reject_count,
        totals.drift_count,
        totals.drift_sum,
        totals.drift_sum_sq,
        totals.reliability_count,
        totals.reliability_sum,
        totals.reliability_sum_sq,
        totals.feedback_count,
        totals.success_count,
        totals.failure_count,
        totals.fields_correct,
        totals.fields_total,
        totals.last_feedback_at,
        totals.first_date,
        totals.last_date,
        totals.last_evaluated_at
    from touched
    inner join {{ this }} as totals
        on touched.tenant_id = totals.tenant_id
        and touched.template_id = totals.template_id
        and touched.extractor_vendor = totals.extractor_vendor
        and touched.extractor_model = totals.extractor_model
    {% endif %}
),

final as (
    select
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        sum(evaluation_count)::bigint as evaluation_count,
        sum(accept_count)::bigint as accept_count,
        sum(review_count)::bigint as review_count,
        sum(reject_count)::bigint as reject_count,
        sum(drift_count)::bigint as drift_count,
        trim_scale(sum(drift_sum)) as drift_sum,
        trim_scale(sum(drift_sum_sq)) as drift_sum_sq,
        sum(reliability_count)::bigint as reliability_count,
        trim_scale(sum(reliability_sum)) as reliability_sum,
        trim_scale(sum(reliability_sum_sq)) as reliability_sum_sq,
        {{ merged_feedback_measures() }},
        min(first_date) as first_date,
        max(last_date) as last_date,
        max(last_evaluated_at) as last_evaluated_at,
        (select intermediate.fold_to('{{ this.identifier }}')) as fold_id
    from parts
    group by tenant_id, template_id, template, extractor_vendor, extractor_model
)

select * from final
