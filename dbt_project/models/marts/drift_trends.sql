{{ config(
    unique_key='drift_trends_id',
    indexes=[{'columns': ['tenant_id', 'template_id', 'date']}, {'columns': ['tenant_id', 'date']}],
    pre_hook="{{ follow(['int_templates_daily']) }}"
) }}

with templates_daily as not materialized (
    select * from {{ ref('int_templates_daily') }}
),

{% if is_incremental() %}
changed_ranges as (
    {{ changed_ranges('templates_daily', ['tenant_id', 'template_id'], 29) }}
),

-- A day changes the windows of the 29 days after it, and those windows reach back 29 days.
concerned as (
    select
        templates_daily.*,
        changed_ranges.first_date,
        templates_daily.date >= changed_ranges.first_date as is_restated
    from changed_ranges
    inner join templates_daily
        on changed_ranges.tenant_id = templates_daily.tenant_id
        and changed_ranges.template_id = templates_daily.template_id
        and templates_daily.date between changed_ranges.first_date - 29 and changed_ranges.last_date + 29
),
{% else %}
concerned as (
    select
        *,
        null::date as first_date,
        true as is_restated
    from templates_daily
),
{% endif %}

-- By date, not by row: a day without evaluations is a gap in the window, never stretches it.
windows as (
    select
        *,
        sum(evaluation_count) over last_7_days as evaluation_count_7d,
        sum(drift_count) over last_7_days as drift_count_7d,
        sum(drift_sum) over last_7_days as drift_sum_7d,
        sum(reliability_count) over last_7_days as reliability_count_7d,
        sum(reliability_sum) over last_7_days as reliability_sum_7d,
        sum(drift_count) over previous_7_days as drift_count_before,
        sum(drift_sum) over previous_7_days as drift_sum_before,
        sum(drift_count) over last_30_days as drift_count_30d,
        sum(drift_sum) over last_30_days as drift_sum_30d,
        sum(drift_histogram) over last_30_days as drift_histogram_30d,
        min(drift_min) over last_30_days as drift_min_30d,
        max(drift_max) over last_30_days as drift_max_30d,
        sum(reliability_count) over last_30_days as reliability_count_30d,
        sum(reliability_sum) over last_30_days as reliability_sum_30d
    from concerned
    window
        last_7_days as (
            partition by tenant_id, template_id, first_date order by date
            range between interval '6 days' preceding and current row
        ),
        previous_7_days as (
            partition by tenant_id, template_id, first_date order by date
            range between interval '13 days' preceding and interval '7 days' preceding
        ),
        last_30_days as (
            partition by tenant_id, template_id, first_date order by date
            range between interval '29 days' preceding and current row
        )
),

final as (
    select
        {{ surrogate_key(['date', 'tenant_id', 'template_id']) }} as drift_trends_id,
        date,
        tenant_id,
        template_id,
        template,
        evaluation_count,
        {{ mean_of('drift_sum', 'drift_count') }} as drift_score,
        {{ mean_of('reliability_sum', 'reliability_count') }} as reliability_score,
        evaluation_count_7d::bigint as evaluation_count_7d,
        {{ mean_of('drift_sum_7d', 'drift_count_7d') }} as drift_avg_7d,
        {{ mean_of('drift_sum_30d', 'drift_count_30d') }} as drift_avg_30d,
        (drift_sum_7d / nullif(drift_count_7d, 0) - drift_sum_before / nullif(drift_count_before, 0))::double precision
            as drift_change_7d,
        least(
            greatest(intermediate.histogram_quantile(drift_histogram_30d, 0.95), drift_min_30d), drift_max_30d
        ) as drift_p95_30d,
        {{ mean_of('reliability_sum_7d', 'reliability_count_7d') }} as reliability_avg_7d,
        {{ mean_of('reliability_sum_30d', 'reliability_count_30d') }} as reliability_avg_30d
    from windows
    where is_restated
)

select * from final
