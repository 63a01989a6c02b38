{{ config(
    unique_key='template_performance_id',
    indexes=[{'columns': ['tenant_id', 'template']}],
    pre_hook="{{ follow(['int_extractor_totals']) }}"
) }}

with totals as not materialized (
    select * from {{ ref('int_extractor_totals') }}
),

{% if is_incremental() %}
-- One extractor's new numbers restate the whole template.
touched as (
    select distinct
        tenant_id,
        template_id
    from totals
    where {{ in_new_folds() }}
),
{% endif %}

extractors as (
    {% if is_incremental() %}
    select totals.*
    from touched
    inner join totals on touched.tenant_id = totals.tenant_id and touched.template_id = totals.template_id
    {% else %}
    select * from totals
    {% endif %}
),

templates as (
    select
        tenant_id,
        template_id,
        template,
        count(*) as extractor_count,
        sum(evaluation_count)::bigint as evaluation_count,
        sum(accept_count)::bigint as accept_count,
        sum(review_count)::bigint as review_count,
        sum(reject_count)::bigint as reject_count,
        sum(drift_count) as drift_count,
        sum(drift_sum) as drift_sum,
        sum(drift_sum_sq) as drift_sum_sq,
        sum(reliability_count) as reliability_count,
        sum(reliability_sum) as reliability_sum,
        sum(reliability_sum_sq) as reliability_sum_sq,
        sum(feedback_count)::bigint as feedback_count,
        sum(success_count)::bigint as success_count,
        sum(failure_count)::bigint as failure_count,
        min(first_date) as first_date,
        max(last_date) as last_date
    from extractors
    group by tenant_id, template_id, template
),

final as (
    select
        {{ surrogate_key(['tenant_id', 'template_id']) }} as template_performance_id,
        tenant_id,
        template_id,
        template,
        extractor_count,
        evaluation_count,
        accept_count,
        review_count,
        reject_count,
        evaluation_count - accept_count - review_count - reject_count as undecided_count,
        {{ mean_of('drift_sum', 'drift_count') }} as avg_drift_score,
        {{ stddev_of('drift_count', 'drift_sum', 'drift_sum_sq') }} as drift_stddev,
        {{ mean_of('reliability_sum', 'reliability_count') }} as avg_reliability_score,
        {{ stddev_of('reliability_count', 'reliability_sum', 'reliability_sum_sq') }} as reliability_stddev,
        feedback_count,
        success_count,
        failure_count,
        {{ mean_of('success_count::numeric', 'feedback_count') }} as success_rate,
        first_date,
        last_date
    from templates
)

select * from final
