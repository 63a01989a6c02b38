{{ config(
    unique_key='data_quality_id',
    indexes=[{'columns': ['tenant_id', 'date']}],
    pre_hook="{{ follow(['int_templates_daily', 'int_usage_daily']) }}"
) }}

with templates_daily as not materialized (
    select * from {{ ref('int_templates_daily') }}
),

usage as not materialized (
    select * from {{ ref('int_usage_daily') }}
),

touched as (
    select
        tenant_id,
        date
    from templates_daily
    {% if is_incremental() %}
    where {{ in_new_folds() }}
    {% endif %}
    union
    select
        tenant_id,
        date
    from usage
    {% if is_incremental() %}
    where {{ in_new_folds() }}
    {% endif %}
),

evaluated as (
    select
        touched.tenant_id,
        touched.date,
        sum(templates_daily.evaluation_count)::bigint as evaluation_count,
        sum(templates_daily.drift_count)::bigint as drift_count,
        sum(templates_daily.reliability_count)::bigint as reliability_count,
        sum(templates_daily.undecided_count)::bigint as undecided_count,
        sum(templates_daily.late_count)::bigint as late_count,
        sum(templates_daily.feedback_count)::bigint as feedback_count
    from touched
    inner join templates_daily on touched.tenant_id = templates_daily.tenant_id and touched.date = templates_daily.date
    group by touched.tenant_id, touched.date
),

final as (
    select
        {{ surrogate_key(['touched.date', 'touched.tenant_id']) }} as data_quality_id,
        touched.date,
        touched.tenant_id,
        coalesce(evaluated.evaluation_count, 0) as evaluation_count,
        coalesce(evaluated.drift_count, 0) as drift_count,
        coalesce(evaluated.reliability_count, 0) as reliability_count,
        coalesce(evaluated.undecided_count, 0) as undecided_count,
        coalesce(evaluated.late_count, 0) as late_count,
        coalesce(evaluated.feedback_count, 0) as feedback_count,
        {{ mean_of('evaluated.drift_count::numeric', 'evaluated.evaluation_count') }} as drift_coverage,
        {{ mean_of('evaluated.reliability_count::numeric', 'evaluated.evaluation_count') }} as reliability_coverage,
        {{ mean_of('evaluated.feedback_count::numeric', 'evaluated.evaluation_count') }} as feedback_coverage,
        coalesce(usage.batch_count, 0) as batch_count,
        coalesce(usage.rejected_count, 0) as rejected_count,
        coalesce(usage.conflict_count, 0) as conflict_count,
        coalesce(usage.duplicate_count, 0) as duplicate_count,
        {{ mean_of(
            'usage.rejected_count::numeric',
            '(usage.evaluation_count + usage.feedback_count + usage.duplicate_count + usage.conflict_count'
            ~ ' + usage.rejected_count)'
        ) }} as rejected_share
    from touched
    left join evaluated on touched.tenant_id = evaluated.tenant_id and touched.date = evaluated.date
    left join usage on touched.tenant_id = usage.tenant_id and touched.date = usage.date
)

select * from final
