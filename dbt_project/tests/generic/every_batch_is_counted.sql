{#- What an increment adds is exactly what the receipts of its batches say was accepted, tenant by tenant. -#}
{% test every_batch_is_counted(model) %}
    with mark as (
        select * from intermediate.marks
        where model = '{{ model.identifier }}' and not is_whole
    ),

    received as (
        select
            batches.tenant_id,
            sum(batches.accepted) as accepted
        from {{ ref('int_batches') }} as batches
        inner join mark on batches.fold_id > mark.from_fold and batches.fold_id <= mark.to_fold
        where batches.kind = 'evaluations'
        group by batches.tenant_id
    ),

    counted as (
        select
            deltas.tenant_id,
            sum(deltas.evaluation_count) as evaluation_count
        from {{ model }} as deltas
        inner join mark on deltas.fold_id > mark.from_fold and deltas.fold_id <= mark.to_fold
        group by deltas.tenant_id
    )

    select *
    from received
    full join counted using (tenant_id)
    where coalesce(received.accepted, 0) <> coalesce(counted.evaluation_count, 0)
{% endtest %}
