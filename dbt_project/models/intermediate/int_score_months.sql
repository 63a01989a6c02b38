{{ config(
    unique_key=['tenant_id', 'template_id', 'month'],
    indexes=[{'columns': ['tenant_id', 'template_id', 'month'], 'unique': true}],
    pre_hook="{{ follow(['int_templates_daily']) }}"
) }}

with templates_daily as not materialized (
    select * from {{ ref('int_templates_daily') }}
),

{% if is_incremental() %}
touched as (
    select distinct
        tenant_id,
        template_id,
        date_trunc('month', date)::date as month
    from templates_daily
    where {{ in_new_folds() }}
),

restated as (
    select
        touched.month,
        templates_daily.*
    from touched
    inner join templates_daily
        on touched.tenant_id = templates_daily.tenant_id
        and touched.template_id = templates_daily.template_id
        and touched.month <= templates_daily.date
        and (touched.month + interval '1 month')::date > templates_daily.date
),
{% else %}
restated as (
    select
        date_trunc('month', templates_daily.date)::date as month,
        templates_daily.*
    from templates_daily
),
{% endif %}

scores as (
    select
        tenant_id,
        template_id,
        template,
        month,
        date - date '2000-01-01' as day_number,
        coalesce({{ mean_of('drift_sum', 'drift_count') }}, 'NaN') as drift_score,
        drift_count,
        coalesce({{ mean_of('reliability_sum', 'reliability_count') }}, 'NaN') as reliability_score,
        reliability_count
    from restated
),

final as (
    select
        tenant_id,
        template_id,
        template,
        month,
        string_agg(int4send(day_number), '' order by day_number) as days,
        string_agg(float8send(drift_score), '' order by day_number) as drift_scores,
        string_agg(float8send(drift_count), '' order by day_number) as drift_counts,
        string_agg(float8send(reliability_score), '' order by day_number) as reliability_scores,
        string_agg(float8send(reliability_count), '' order by day_number) as reliability_counts
    from scores
    group by tenant_id, template_id, template, month
)

select * from final
