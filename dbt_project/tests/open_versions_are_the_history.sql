{{ config(
    meta={'dagster': {'ref': {'name': 'drift_history_versions'}}},
    description='What drift_history says now is what its versions say is known now.'
) }}

with history as (
    select
        drift_history_id,
        drift_score,
        reliability_score,
        evaluation_count,
        drift_count
    from {{ ref('drift_history') }}
),

known_now as (
    select
        drift_history_id,
        drift_score,
        reliability_score,
        evaluation_count,
        drift_count
    from {{ ref('drift_history_versions') }}
    where known_to is null
),

differing as (
    select coalesce(history.drift_history_id, known_now.drift_history_id) as drift_history_id
    from history
    full join known_now on history.drift_history_id = known_now.drift_history_id
    where history is distinct from known_now
)

select drift_history_id from differing
