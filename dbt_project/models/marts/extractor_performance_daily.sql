{{ config(
    unique_key='extractor_performance_daily_id',
    indexes=[{'columns': ['tenant_id', 'template_id', 'date']}, {'columns': ['tenant_id', 'date']}],
    pre_hook="{{ follow(['int_evaluations_daily', 'int_outcomes_daily']) }}"
) }}

with evaluations as not materialized (
    select * from {{ ref('int_evaluations_daily') }}
),

outcomes as not materialized (
    select * from {{ ref('int_outcomes_daily') }}
),

touched as (
    select
        tenant_id,
        template_id,
        template,
        date,
        extractor_vendor,
        extractor_model
    from evaluations
    {% if is_incremental() %}
    where {{ in_new_folds() }}
    {% endif %}
    union
    select
        tenant_id,
        template_id,
        template,
        date,
        extractor_vendor,
        extractor_model
    from outcomes
    {% if is_incremental() %}
    where {{ in_new_folds() }}
    {% endif %}
),

evaluated as (
    select
        touched.tenant_id,
        touched.template_id,
        touched.template,
        touched.date,
        touched.extractor_vendor,
        touched.extractor_model,
        {%- for measure in [
            'evaluation_count', 'feedback_count', 'success_count', 'failure_count', 'fields_correct', 'fields_total',
            'cost_count', 'latency_count'
        ] %}
        coalesce(sum(evaluations.{{ measure }}), 0)::bigint as {{ measure }},
        {%- endfor %}
        {%- for measure in ['cost_sum', 'latency_sum', 'latency_sum_sq'] %}
        coalesce(sum(evaluations.{{ measure }}), 0)::double precision as {{ measure }},
        {%- endfor %}
        greatest(max(evaluations.last_evaluated_at), max(evaluations.last_feedback_at)) as updated_at
    from touched
    left join evaluations
        on touched.tenant_id = evaluations.tenant_id
        and touched.template_id = evaluations.template_id
        and touched.date = evaluations.date
        and touched.extractor_vendor = evaluations.extractor_vendor
        and touched.extractor_model = evaluations.extractor_model
    group by
        touched.tenant_id,
        touched.template_id,
        touched.template,
        touched.date,
        touched.extractor_vendor,
        touched.extractor_model
),

{% set key = [
    'evaluated.tenant_id', 'evaluated.template_id', 'evaluated.extractor_vendor', 'evaluated.extractor_model',
    'evaluated.date'
] %}
final as (
    select
        {{ surrogate_key(key) }} as extractor_performance_daily_id,
        evaluated.*,
        {%- for measure in outcome_counts().split() %}
        coalesce(outcomes.{{ measure }}, 0) as {{ measure }},
        {%- endfor %}
        {%- for measure in outcome_sums().split() %}
        coalesce(outcomes.{{ measure }}, 0)::double precision as {{ measure }},
        {%- endfor %}
        outcomes.success_weight_max::double precision as success_weight_max,
        outcomes.fields_weight_max::double precision as fields_weight_max
    from evaluated
    left join outcomes
        on evaluated.tenant_id = outcomes.tenant_id
        and evaluated.template_id = outcomes.template_id
        and evaluated.date = outcomes.date
        and evaluated.extractor_vendor = outcomes.extractor_vendor
        and evaluated.extractor_model = outcomes.extractor_model
)

select * from final
