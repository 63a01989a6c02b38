{#-
    An aggregate says which batches it has in it: its horizon, a snapshot taken in the transaction that builds it.
    Batches that commit during a build are left to the next one, so that counts can be reconciled to the row while
    records keep coming, and none is skipped because its transaction committed late.
-#}

{#- A pre-hook: the aggregate's horizon is now. -#}
{%- macro mark_horizon(model_name) -%}
    insert into intermediate.horizons (model, snapshot) values ('{{ model_name }}', pg_current_snapshot())
    on conflict (model) do update set snapshot = excluded.snapshot
{%- endmacro -%}

{#-
    The batches that an aggregate does not have in it; few, whatever the history.
    A batch with a number beyond the present comes from a restored backup of another server: it is old, not new.
-#}
{%- macro batches_beyond_horizon(model_name, batches) -%}
    select {{ batches }}.batch_id
    from {{ batches }}
    inner join intermediate.horizons on horizons.model = '{{ model_name }}'
    where
        {{ batches }}.xact_id >= pg_snapshot_xmin(horizons.snapshot)
        and {{ batches }}.xact_id < pg_snapshot_xmax(pg_current_snapshot())
        and not pg_visible_in_snapshot({{ batches }}.xact_id, horizons.snapshot)
{%- endmacro -%}
