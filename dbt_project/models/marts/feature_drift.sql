{{ config(
    unique_key='feature_drift_id',
    indexes=[{'columns': ['tenant_id', 'template_id', 'date']}, {'columns': ['tenant_id', 'date']}],
    pre_hook="{{ follow(['int_features_daily']) }}"
) }}

with features_daily as not materialized (
    select * from {{ ref('int_features_daily') }}
),

{% if is_incremental() %}
changed_ranges as (
    {{ changed_ranges('features_daily', ['tenant_id', 'template_id', 'feature'], 28) }}
),

-- A day is part of the baseline of the 28 days after it.
concerned as (
    select
        features_daily.*,
        changed_ranges.first_date,
        features_daily.date >= changed_ranges.first_date as is_restated
    from changed_ranges
    inner join features_daily
        on changed_ranges.tenant_id = features_daily.tenant_id
        and changed_ranges.template_id = features_daily.template_id
        and changed_ranges.feature = features_daily.feature
        and features_daily.date between changed_ranges.first_date - 28 and changed_ranges.last_date + 28
),
{% else %}
concerned as (
    select
        *,
        null::date as first_date,
        true as is_restated
    from features_daily
),
{% endif %}

-- The baseline ends the day before: no day is compared with itself.
windows as (
    select
        *,
        coalesce(sum(value_count) over baseline, 0)::bigint as baseline_count,
        sum(value_sum) over baseline as baseline_sum,
        sum(value_sum_sq) over baseline as baseline_sum_sq
    from concerned
    window baseline as (
        partition by tenant_id, template_id, feature, first_date order by date
        range between interval '28 days' preceding and interval '1 day' preceding
    )
),

moments as (
    select
        *,
        {{ mean_of('value_sum', 'value_count') }} as mean,
        {{ stddev_of('value_count', 'value_sum', 'value_sum_sq') }} as stddev,
        {{ mean_of('baseline_sum', 'baseline_count') }} as baseline_mean,
        {{ stddev_of('baseline_count', 'baseline_sum', 'baseline_sum_sq') }} as baseline_stddev
    from windows
    where is_restated
),

-- Welch's two-sample statistic. Its normal law needs numbers: below 30 on either side there is no verdict.
tested as (
    select
        *,
        (mean - baseline_mean) / nullif(baseline_stddev, 0) as shift,
        case
            when value_count >= 30 and baseline_count >= 30
                then
                    (mean - baseline_mean)
                    / nullif(sqrt(stddev ^ 2 / value_count + baseline_stddev ^ 2 / baseline_count), 0)
        end as z_score
    from moments
),

final as (
    select
        {{ surrogate_key(['date', 'tenant_id', 'template_id', 'feature']) }} as feature_drift_id,
        date,
        tenant_id,
        template_id,
        template,
        feature,
        value_count,
        null_count,
        mean,
        stddev,
        baseline_count,
        baseline_mean,
        baseline_stddev,
        shift,
        z_score,
        erfc(abs(z_score) / sqrt(2)) as p_value
    from tested
)

select * from final
