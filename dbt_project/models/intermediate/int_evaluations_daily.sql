{{ config(
    pre_hook="{{ mark_horizon('int_evaluations_daily') }}",
    indexes=[{
        'columns': ['date', 'tenant_id', 'template_id', 'extractor_vendor', 'extractor_model', 'decision'],
        'unique': true
    }]
) }}

with evaluations as (
    select * from {{ ref('stg_evaluations') }}
),

batches as (
    select * from {{ ref('stg_ingest_batches') }}
),

later_batches as (
    {{ batches_beyond_horizon('int_evaluations_daily', 'batches') }}
),

known_evaluations as (
    -- Sums of numeric are exact, so they are the same in whatever order rows are read and merged. By way of text,
    -- because a plain cast keeps 15 digits of the 17 that a double can have. Cut at 20 decimals, because the mean of
    -- numbers near 1e-320 is one that a double can't have.
    select
        evaluations.*,
        evaluations.drift_score::text::numeric(21, 20) as drift,
        evaluations.reliability_score::text::numeric(21, 20) as reliability
    from evaluations
    where
        not exists (
            select 1 from later_batches
            where later_batches.batch_id = evaluations.batch_id
        )
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
        count(*) as evaluation_count,
        count(drift) as drift_count,
        trim_scale(coalesce(sum(drift), 0)) as drift_sum,
        trim_scale(coalesce(sum(drift * drift), 0)) as drift_sum_sq,
        min(drift)::double precision as drift_min,
        max(drift)::double precision as drift_max,
        count(reliability) as reliability_count,
        trim_scale(coalesce(sum(reliability), 0)) as reliability_sum,
        trim_scale(coalesce(sum(reliability * reliability), 0)) as reliability_sum_sq,
        min(reliability)::double precision as reliability_min,
        max(reliability)::double precision as reliability_max,
        min(created_at) as first_evaluated_at,
        max(created_at) as last_evaluated_at
    from known_evaluations
    group by date, tenant_id, template_id, template, extractor_vendor, extractor_model, decision
)

select * from final
