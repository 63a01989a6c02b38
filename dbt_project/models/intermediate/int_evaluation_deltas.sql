{{ config(
    incremental_strategy='append',
    indexes=[{'columns': ['fold_id']}],
    pre_hook=[
        "{{ follow_increments(['int_batches', 'int_feedback_versions']) }}",
        "{{ begin_where_it_ends('int_evaluations_daily') }}",
        "{{ forget_taken_increments(['int_evaluations_daily', 'int_extractor_totals']) }}"
    ]
) }}

with batches as not materialized (
    select * from {{ ref('int_batches') }}
),

evaluations as not materialized (
    select * from {{ ref('stg_evaluations') }}
),

feedback_versions as not materialized (
    select * from {{ ref('int_feedback_versions') }}
),

bins as not materialized (
    select * from {{ ref('int_histogram_bins') }}
),

arrived as (
    {{ arrived_evaluations('batches', 'evaluations') }}
),

-- By way of text, because a plain cast keeps 15 digits of the 17 that a double can have. Cut at 20 decimals, because
-- the mean of numbers near 1e-320 is one that a double can't have.
scored as (
    select
        arrived.*,
        arrived.drift_score::text::numeric(21, 20) as drift,
        arrived.reliability_score::text::numeric(21, 20) as reliability,
        arrived.cost_usd::text::numeric(18, 12) as cost,
        arrived.latency_ms::text::numeric(16, 6) as latency,
        floor(arrived.drift_score * 50)::integer as drift_bin,
        floor(arrived.reliability_score * 50)::integer as reliability_bin,
        -- An hour's grace: what is measured just before midnight may arrive just after.
        arrived.received_at >= ((arrived.date + 1)::timestamp at time zone 'UTC') + interval '1 hour' as is_late
    from arrived
),

evaluation_groups as (
    select
        scored.date,
        scored.tenant_id,
        scored.template_id,
        scored.template,
        scored.extractor_vendor,
        scored.extractor_model,
        scored.decision,
        count(*) as evaluation_count,
        count(*) filter (where scored.is_late) as late_count,
        count(scored.drift) as drift_count,
        coalesce(sum(scored.drift), 0) as drift_sum,
        coalesce(sum(scored.drift * scored.drift), 0) as drift_sum_sq,
        min(scored.drift)::double precision as drift_min,
        max(scored.drift)::double precision as drift_max,
        sum(drift_bins.one) as drift_histogram,
        count(scored.reliability) as reliability_count,
        coalesce(sum(scored.reliability), 0) as reliability_sum,
        coalesce(sum(scored.reliability * scored.reliability), 0) as reliability_sum_sq,
        min(scored.reliability)::double precision as reliability_min,
        max(scored.reliability)::double precision as reliability_max,
        sum(reliability_bins.one) as reliability_histogram,
        min(scored.created_at) as first_evaluated_at,
        max(scored.created_at) as last_evaluated_at,
        count(scored.cost) as cost_count,
        coalesce(sum(scored.cost), 0) as cost_sum,
        count(scored.latency) as latency_count,
        coalesce(sum(scored.latency), 0) as latency_sum,
        coalesce(sum(scored.latency * scored.latency), 0) as latency_sum_sq,
        0 as feedback_count,
        0 as success_count,
        0 as failure_count,
        0 as fields_correct,
        0 as fields_total,
        null::timestamptz as last_feedback_at
    from scored
    left join bins as drift_bins on scored.drift_bin = drift_bins.bin
    left join bins as reliability_bins on scored.reliability_bin = reliability_bins.bin
    group by
        scored.date,
        scored.tenant_id,
        scored.template_id,
        scored.template,
        scored.extractor_vendor,
        scored.extractor_model,
        scored.decision
),

new_versions as (
    select distinct on (evaluation_id, tenant_id) *
    from feedback_versions
    where
        {{ in_known_folds() }}
        and (
            {{ in_new_folds() }}
            or {{ 'false' if is_incremental() else 'date >= (select raw.dropped_before())' }}
        )
    order by evaluation_id asc, tenant_id asc, fold_id desc
),

-- What a corrected feedback said before is taken back.
feedback_changes as (
    select
        new_versions.*,
        1 as sign
    from new_versions
    union all
    select
        replaced.*,
        -1 as sign
    from new_versions
    cross join lateral (
        select earlier.*
        from feedback_versions as earlier
        where
            earlier.evaluation_id = new_versions.evaluation_id
            and earlier.tenant_id = new_versions.tenant_id
            and earlier.fold_id <= intermediate.fold_from('{{ this.identifier }}')
            and {{ 'true' if is_incremental() else 'earlier.date < (select raw.dropped_before())' }}
        order by earlier.fold_id desc
        limit 1
    ) as replaced
),

feedback_groups as (
    select
        date,
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        decision,
        0 as evaluation_count,
        0 as late_count,
        0 as drift_count,
        0 as drift_sum,
        0 as drift_sum_sq,
        null::double precision as drift_min,
        null::double precision as drift_max,
        null::vector as drift_histogram,
        0 as reliability_count,
        0 as reliability_sum,
        0 as reliability_sum_sq,
        null::double precision as reliability_min,
        null::double precision as reliability_max,
        null::vector as reliability_histogram,
        null::timestamptz as first_evaluated_at,
        null::timestamptz as last_evaluated_at,
        0 as cost_count,
        0 as cost_sum,
        0 as latency_count,
        0 as latency_sum,
        0 as latency_sum_sq,
        sum(sign) as feedback_count,
        coalesce(sum(sign) filter (where is_success), 0) as success_count,
        coalesce(sum(sign) filter (where not is_success), 0) as failure_count,
        coalesce(sum(sign * fields_correct), 0) as fields_correct,
        coalesce(sum(sign * fields_total), 0) as fields_total,
        max(feedback_at) as last_feedback_at
    from feedback_changes
    where not is_early
    group by date, tenant_id, template_id, template, extractor_vendor, extractor_model, decision
),

both_parts as (
    select * from evaluation_groups
    union all
    select * from feedback_groups
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
    from both_parts
    group by date, tenant_id, template_id, template, extractor_vendor, extractor_model, decision
)

select * from final
