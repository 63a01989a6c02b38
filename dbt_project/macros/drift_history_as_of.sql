{#- What marts.drift_history said at any time. It asks with the rights of who calls it, so that policies hold. -#}
{%- macro drift_history_as_of() -%}
    {%- if not is_incremental() -%}
        create or replace function {{ this.schema }}.drift_history_as_of(at timestamptz)
        returns setof {{ this }} language sql stable as $$
            select * from {{ this }}
            where known_from <= at and (known_to > at or known_to is null)
        $$;
        comment on function {{ this.schema }}.drift_history_as_of(timestamptz) is
            'The rows of drift_history as they were known at that time.'
    {%- endif -%}
{%- endmacro -%}
