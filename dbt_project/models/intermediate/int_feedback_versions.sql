{{ config(
    incremental_strategy='append',
    indexes=[
        {'columns': ['evaluation_id', 'tenant_id', 'fold_id'], 'unique': true},
        {'columns': ['template_id', 'date']},
        {'columns': ['fold_id']}
    ],
    pre_hook="{{ follow(['int_batches']) }}"
) }}

with batches as not materialized (
    select * from {{ ref('int_batches') }}
),

feedback as not materialized (
    select * from {{ ref('stg_feedback') }}
),

keys as not materialized (
    select * from {{ ref('stg_evaluation_keys') }}
),

evaluations as not materialized (
    select * from {{ ref('stg_evaluations') }}
),

shares as not materialized (
    select * from {{ ref('stg_extractor_shares') }}
),

known_batches as not materialized (
    select * from batches
    where {{ in_known_folds() }}
),

known_feedback as not materialized (
    select feedback.*
    from feedback
    inner join known_batches on feedback.batch_id = known_batches.batch_id
),

{% if is_incremental() %}
new_batches as (
    select * from batches
    where {{ in_new_folds() }}
),

new_feedback as (
    select feedback.*
    from new_batches
    inner join feedback on new_batches.batch_id = feedback.batch_id
),

new_evaluations as (
    {{ arrived_evaluations('batches', 'evaluations') }}
),

-- An evaluation is looked at if feedback on it is new, or if it is new itself and feedback has been waiting for it.
touched as (
    select
        keys.evaluation_id,
        keys.tenant_id,
        keys.record_key,
        keys.created_on
    from new_feedback
    inner join keys on new_feedback.record_key = keys.record_key and new_feedback.tenant_id = keys.tenant_id
    union
    select
        keys.evaluation_id,
        keys.tenant_id,
        keys.record_key,
        keys.created_on
    from new_feedback
    inner join keys on new_feedback.evaluation_id = keys.evaluation_id and new_feedback.tenant_id = keys.tenant_id
    union
    select
        new_evaluations.evaluation_id,
        new_evaluations.tenant_id,
        new_evaluations.record_key,
        new_evaluations.date
    from new_evaluations
    where
        exists (
            select 1 from feedback
            where feedback.record_key = new_evaluations.record_key and feedback.tenant_id = new_evaluations.tenant_id
        )
        or exists (
            select 1 from feedback
            where
                feedback.evaluation_id = new_evaluations.evaluation_id
                and feedback.tenant_id = new_evaluations.tenant_id
        )
),
{% else %}
touched as (
    select
        evaluation_id,
        tenant_id,
        record_key,
        created_on
    from keys
),
{% endif %}

about_evaluations as (
    select
        touched.evaluation_id as about_evaluation_id,
        touched.created_on,
        known_feedback.*
    from touched
    inner join known_feedback
        on touched.record_key = known_feedback.record_key and touched.tenant_id = known_feedback.tenant_id
    union all
    select
        touched.evaluation_id as about_evaluation_id,
        touched.created_on,
        known_feedback.*
    from touched
    inner join known_feedback
        on touched.evaluation_id = known_feedback.evaluation_id and touched.tenant_id = known_feedback.tenant_id
),

-- Ties are broken by content, never by arrival: the same records in another order give the same marts.
newest as (
    select distinct on (tenant_id, about_evaluation_id) *
    from about_evaluations
    order by tenant_id asc, about_evaluation_id asc, created_at desc, came_with_evaluation asc, feedback_id desc
),

-- With what was said about them, so that neither side is looked for again where no index helps.
judged_evaluations as (
    select
        found.evaluation_id,
        found.tenant_id,
        found.date,
        found.template_id,
        found.template,
        found.extractor_vendor,
        found.extractor_model,
        found.decision,
        newest.created_on,
        newest.feedback_id,
        newest.is_success,
        newest.fields_correct,
        newest.fields_total,
        newest.created_at as feedback_at,
        found.created_at as evaluated_at,
        {{ is_early('newest.created_at', 'found.created_at') }} as is_early,
        {{ propensity_problem('found', 'snapshot') }} as propensity_problem,
        {{ weight_of('found', 'snapshot') }} as weight,
        found.eligible_extractors
    from newest
    -- The tenant is compared outside, and offset keeps it there: a month without statistics would have its evaluations
    -- found by the index on tenants, one day of a tenant for each of them.
    inner join lateral (
        select evaluations.*
        from evaluations
        where
            evaluations.evaluation_id = newest.about_evaluation_id
            and evaluations.created_at >= newest.created_on::timestamp at time zone 'UTC'
            and evaluations.created_at < (newest.created_on + 1)::timestamp at time zone 'UTC'
        offset 0 -- noqa: AM09
    ) as found on newest.tenant_id = found.tenant_id
    inner join known_batches on found.batch_id = known_batches.batch_id
    left join lateral (
        select
            max(shares.share) filter (
                where
                shares.template_id = found.template_id
                and shares.extractor_vendor = found.extractor_vendor
                and shares.extractor_model = found.extractor_model
            ) as share,
            -- What is known only later would make a rebuild say something else.
            coalesce(min(shares.recorded_at) <= known_batches.received_at, false) as is_known
        from shares
        where shares.snapshot_id = found.snapshot_id and shares.tenant_id = found.tenant_id
    ) as snapshot on true
    {% if was_built_before() %}
    -- Retention may have dropped the evaluation; what it was is known from its earlier feedback.
    union
    select
        earlier.evaluation_id,
        earlier.tenant_id,
        earlier.date,
        earlier.template_id,
        earlier.template,
        earlier.extractor_vendor,
        earlier.extractor_model,
        earlier.decision,
        newest.created_on,
        newest.feedback_id,
        newest.is_success,
        newest.fields_correct,
        newest.fields_total,
        newest.created_at as feedback_at,
        earlier.evaluated_at,
        coalesce({{ is_early('newest.created_at', 'earlier.evaluated_at') }}, false) as is_early,
        earlier.propensity_problem,
        earlier.weight,
        earlier.eligible_extractors
    from newest
    inner join {{ this }} as earlier
        on newest.about_evaluation_id = earlier.evaluation_id and newest.tenant_id = earlier.tenant_id
    where newest.created_on < raw.dropped_before()
    {% endif %}
),

final as (
    select
        judged_evaluations.evaluation_id,
        judged_evaluations.tenant_id,
        judged_evaluations.date,
        judged_evaluations.template_id,
        judged_evaluations.template,
        judged_evaluations.extractor_vendor,
        judged_evaluations.extractor_model,
        judged_evaluations.decision,
        judged_evaluations.feedback_id,
        judged_evaluations.is_success,
        judged_evaluations.fields_correct,
        judged_evaluations.fields_total,
        judged_evaluations.feedback_at,
        judged_evaluations.evaluated_at,
        judged_evaluations.is_early,
        judged_evaluations.propensity_problem,
        judged_evaluations.weight,
        judged_evaluations.eligible_extractors,
        (select intermediate.fold_to('{{ this.identifier }}')) as fold_id
    from judged_evaluations
    {% if was_built_before() %}
    left join lateral (
        select earlier.feedback_id
        from {{ this }} as earlier
        where
            earlier.evaluation_id = judged_evaluations.evaluation_id
            and earlier.tenant_id = judged_evaluations.tenant_id
        order by earlier.fold_id desc
        limit 1
    ) as counted on true
    where
        judged_evaluations.feedback_id is distinct from counted.feedback_id
        or {{ 'false' if is_incremental() else 'judged_evaluations.created_on >= raw.dropped_before()' }}
    {% endif %}
    {% if was_built_before() and not is_incremental() %}
    union all
    select
        earlier.evaluation_id,
        earlier.tenant_id,
        earlier.date,
        earlier.template_id,
        earlier.template,
        earlier.extractor_vendor,
        earlier.extractor_model,
        earlier.decision,
        earlier.feedback_id,
        earlier.is_success,
        earlier.fields_correct,
        earlier.fields_total,
        earlier.feedback_at,
        earlier.evaluated_at,
        earlier.is_early,
        earlier.propensity_problem,
        earlier.weight,
        earlier.eligible_extractors,
        earlier.fold_id
    from {{ this }} as earlier
    where earlier.date < raw.dropped_before()
    {% endif %}
)

select * from final
