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
    (select * from history except select * from known_now)
    union all
    (select * from known_now except select * from history)
)

select * from differing
