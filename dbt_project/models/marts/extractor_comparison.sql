{{ config(
    unique_key='extractor_comparison_id',
    indexes=[{'columns': ['tenant_id', 'template_id']}],
    pre_hook="{{ follow(['int_extractor_totals']) }}"
) }}

with totals as not materialized (
    select * from {{ ref('int_extractor_totals') }}
),

{% if is_incremental() %}
-- One extractor's new numbers restate the whole template: shares and ranks are among all of its extractors.
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

rates as (
    select
        *,
        evaluation_count / sum(evaluation_count) over (partition by tenant_id, template_id) as evaluation_share,
        {{ mean_of('success_count::numeric', 'feedback_count') }} as success_rate,
        {{ mean_of('fields_correct::numeric', 'fields_total') }} as field_accuracy
    from extractors
),

final as (
    select
        {{ surrogate_key(['tenant_id', 'template_id', 'extractor_vendor', 'extractor_model']) }}
            as extractor_comparison_id,
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        evaluation_count,
        evaluation_share::double precision as evaluation_share,
        {{ mean_of('drift_sum', 'drift_count') }} as avg_drift_score,
        {{ mean_of('reliability_sum', 'reliability_count') }} as avg_reliability_score,
        {{ mean_of('accept_count::numeric', 'evaluation_count') }} as accept_rate,
        {{ mean_of('review_count::numeric', 'evaluation_count') }} as review_rate,
        {{ mean_of('reject_count::numeric', 'evaluation_count') }} as reject_rate,
        feedback_count,
        success_rate,
        field_accuracy,
        case
            when success_rate is not null
                then rank() over (partition by tenant_id, template_id order by success_rate desc nulls last)
        end as success_rank,
        first_date,
        last_date
    from rates
)

select * from final
