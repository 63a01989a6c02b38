{{ config(
    unique_key=['tenant_id', 'template_id', 'date'],
    indexes=[
        {'columns': ['tenant_id', 'template_id', 'date'], 'unique': true},
        {'columns': ['tenant_id', 'date']},
        {'columns': ['fold_id']}
    ],
    pre_hook="{{ follow(['int_evaluations_daily']) }}"
) }}

with evaluations as not materialized (
    select * from {{ ref('int_evaluations_daily') }}
),

{% if is_incremental() %}
touched as (
    select distinct
        tenant_id,
        template_id,
        date
    from evaluations
    where {{ in_new_folds() }}
),

restated as (
    select evaluations.*
    from touched
    inner join evaluations
        on touched.tenant_id = evaluations.tenant_id
        and touched.template_id = evaluations.template_id
        and touched.date = evaluations.date
),
{% else %}
restated as (
    select * from evaluations
),
{% endif %}

final as (
    select
        date,
        tenant_id,
        template_id,
        template,
        {{ merged_measures() }},
        coalesce(sum(evaluation_count) filter (where decision = 'undecided'), 0)::bigint as undecided_count,
        (select intermediate.fold_to('{{ this.identifier }}')) as fold_id
    from restated
    group by date, tenant_id, template_id, template
)

select * from final
