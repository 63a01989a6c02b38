{{ config(
    unique_key=['tenant_id', 'template_id', 'date', 'extractor_vendor', 'extractor_model', 'decision'],
    indexes=[
        {
            'columns': ['tenant_id', 'template_id', 'date', 'extractor_vendor', 'extractor_model', 'decision'],
            'unique': true
        },
        {'columns': ['fold_id']}
    ],
    pre_hook=[
        "{{ require_whole('int_evaluation_deltas') }}",
        "{{ follow_increments(['int_evaluation_deltas']) }}"
    ]
) }}

with deltas as not materialized (
    select * from {{ ref('int_evaluation_deltas') }}
    -- Of dropped days, what is kept below has the increments already that it took in before.
    where {{ in_new_folds() }}{{ '' if is_incremental() else ' or date >= (select raw.dropped_before())' }}
),

{% if is_incremental() %}
touched as (
    select distinct
        tenant_id,
        template_id,
        date,
        extractor_vendor,
        extractor_model,
        decision
    from deltas
),
{% endif %}

kept as (
    {% if is_incremental() %}
    select daily.*
    from touched
    inner join {{ this }} as daily
        on touched.tenant_id = daily.tenant_id
        and touched.template_id = daily.template_id
        and touched.date = daily.date
        and touched.extractor_vendor = daily.extractor_vendor
        and touched.extractor_model = daily.extractor_model
        and touched.decision = daily.decision
    {% elif was_built_before() %}
    -- What retention has dropped from raw is only here: made anew, the fact takes it along.
    select * from {{ this }}
    where date < raw.dropped_before()
    {% else %}
    select * from deltas
    where false
    {% endif %}
),

parts as (
    select
        date,
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        decision,
        {{ measure_names() }},
        {{ cost_names() }}
    from kept
    union all
    select
        date,
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        decision,
        {{ measure_names() }},
        {{ cost_names() }}
    from deltas
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
        {{ merged_measures() }},
        {{ merged_costs() }},
        (select intermediate.fold_to('{{ this.identifier }}')) as fold_id
    from parts
    group by date, tenant_id, template_id, template, extractor_vendor, extractor_model, decision
)

select * from final
