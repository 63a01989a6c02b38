{{ config(
    pre_hook="{{ mark_horizon('int_feedback_latest') }}",
    indexes=[{'columns': ['evaluation_id', 'tenant_id'], 'unique': true}]
) }}

-- depends_on: {{ ref('int_evaluations_daily') }}
with feedback as (
    select * from {{ ref('stg_feedback') }}
),

keys as (
    select * from {{ ref('stg_evaluation_keys') }}
),

evaluations as (
    select * from {{ ref('stg_evaluations') }}
),

batches as (
    select * from {{ ref('stg_ingest_batches') }}
),

later_feedback_batches as (
    {{ batches_beyond_horizon('int_feedback_latest', 'batches') }}
),

-- Feedback on an evaluation that the daily aggregate doesn't have yet waits for it, as it would for one not landed.
later_evaluation_batches as (
    {{ batches_beyond_horizon('int_evaluations_daily', 'batches') }}
),

known_feedback as (
    select feedback.*
    from feedback
    where
        not exists (
            select 1 from later_feedback_batches
            where later_feedback_batches.batch_id = feedback.batch_id
        )
),

known_evaluations as (
    select evaluations.*
    from evaluations
    where
        not exists (
            select 1 from later_evaluation_batches
            where later_evaluation_batches.batch_id = evaluations.batch_id
        )
),

by_record as (
    select
        known_feedback.*,
        keys.evaluation_id as about_evaluation_id
    from known_feedback
    inner join keys on known_feedback.record_key = keys.record_key and known_feedback.tenant_id = keys.tenant_id
),

by_evaluation as (
    select
        known_feedback.*,
        known_feedback.evaluation_id as about_evaluation_id
    from known_feedback
    where known_feedback.evaluation_id is not null
),

about_evaluations as (
    select * from by_record
    union all
    select * from by_evaluation
),

-- Ties are broken by content, never by arrival: the same records in another order give the same marts.
newest as (
    select distinct on (tenant_id, about_evaluation_id) *
    from about_evaluations
    order by tenant_id asc, about_evaluation_id asc, created_at desc, came_with_evaluation asc, feedback_id desc
),

final as (
    select
        known_evaluations.evaluation_id,
        known_evaluations.tenant_id,
        known_evaluations.date,
        known_evaluations.template_id,
        known_evaluations.template,
        known_evaluations.extractor_vendor,
        known_evaluations.extractor_model,
        known_evaluations.decision,
        newest.feedback_id,
        newest.is_success,
        newest.fields_correct,
        newest.fields_total,
        newest.created_at as feedback_at
    from newest
    inner join known_evaluations
        on newest.about_evaluation_id = known_evaluations.evaluation_id
        and newest.tenant_id = known_evaluations.tenant_id
)

select * from final
