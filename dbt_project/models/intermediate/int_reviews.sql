{{ config(
    unique_key=['evaluation_id', 'tenant_id'],
    indexes=[
        {'columns': ['evaluation_id', 'tenant_id'], 'unique': true},
        {'columns': ['date']},
        {'columns': ['fold_id']}
    ],
    pre_hook="{{ follow(['int_batches', 'int_feedback_versions']) }}",
    post_hook="delete from {{ this }} where date < raw.dropped_before()"
) }}

with batches as not materialized (
    select * from {{ ref('int_batches') }}
),

evaluations as not materialized (
    select * from {{ ref('stg_evaluations') }}
    where decision = 'review'
),

feedback_versions as not materialized (
    select * from {{ ref('int_feedback_versions') }}
),

arrived as (
    {{ arrived_evaluations('batches', 'evaluations') }}
),

asked as (
    select
        evaluation_id,
        tenant_id,
        date,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        drift_score,
        reliability_score,
        score,
        label,
        correlation_id,
        created_at
    from arrived
    {% if is_incremental() %}
    union
    select
        reviews.evaluation_id,
        reviews.tenant_id,
        reviews.date,
        reviews.template_id,
        reviews.template,
        reviews.extractor_vendor,
        reviews.extractor_model,
        reviews.drift_score,
        reviews.reliability_score,
        reviews.score,
        reviews.label,
        reviews.correlation_id,
        reviews.created_at
    from feedback_versions
    inner join {{ this }} as reviews
        on feedback_versions.evaluation_id = reviews.evaluation_id
        and feedback_versions.tenant_id = reviews.tenant_id
    where {{ in_new_folds('feedback_versions.fold_id') }}
    {% endif %}
),

final as (
    select
        asked.*,
        answer.feedback_at as reviewed_at,
        answer.is_success,
        (select intermediate.fold_to('{{ this.identifier }}')) as fold_id
    from asked
    left join lateral (
        select
            feedback_versions.feedback_at,
            feedback_versions.is_success
        from feedback_versions
        where
            feedback_versions.evaluation_id = asked.evaluation_id
            and feedback_versions.tenant_id = asked.tenant_id
            and {{ in_known_folds('feedback_versions.fold_id') }}
        order by feedback_versions.fold_id desc
        limit 1
    ) as answer on true
)

select * from final
