{{ config(
    unique_key='evaluation_daily_stats_id',
    indexes=[{'columns': ['tenant_id', 'date']}],
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
        date,
        decision
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
        and touched.decision = evaluations.decision
),
{% else %}
restated as (
    select * from evaluations
),
{% endif %}

by_decision as (
    select
        date,
        tenant_id,
        template_id,
        template,
        decision,
        sum(evaluation_count)::bigint as count,
        sum(drift_count) as drift_count,
        sum(drift_sum) as drift_sum,
        sum(reliability_count) as reliability_count,
        sum(reliability_sum) as reliability_sum
    from restated
    group by date, tenant_id, template_id, template, decision
),

final as (
    select
        {{ surrogate_key(['date', 'tenant_id', 'template_id', 'decision']) }} as evaluation_daily_stats_id,
        date,
        tenant_id,
        template_id,
        template,
        decision,
        count,
        {{ mean_of('drift_sum', 'drift_count') }} as avg_drift,
        {{ mean_of('reliability_sum', 'reliability_count') }} as avg_reliability
    from by_decision
)

select * from final
