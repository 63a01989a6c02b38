{{ config(
    group='warehouse',
    meta={'dagster': {'ref': {'name': 'int_batches'}}},
    description='What had committed when the last fold looked is in it. After a restore into a server whose transaction numbers have outgrown the old one''s it may not be: tidemark refresh --full takes it in.'
) }}

with newest_fold as (
    select
        fold_id,
        horizon
    from {{ ref('int_batches') }}
    order by fold_id desc, horizon desc
    limit 1
),

skipped as (
    select batches.batch_id
    from {{ ref('stg_ingest_batches') }} as batches
    inner join newest_fold on batches.xact_id < newest_fold.horizon
    where
        not exists (
            select 1 from {{ ref('int_batches') }} as folded
            where folded.batch_id = batches.batch_id
        )
)

select * from skipped
