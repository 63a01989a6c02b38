{#- Whether the model's table is there from an earlier build, also where this build makes it anew. -#}
{%- macro was_built_before() -%}
    {%- do return(this is not none and load_relation(this) is not none) -%}
{%- endmacro -%}

{#-
    The columns of a relation with their types as PostgreSQL writes them. dbt asks information_schema, which calls every
    vector USER-DEFINED and every array ARRAY, and takes several times as long.
-#}
{%- macro postgres__get_columns_in_relation(relation) -%}
    {%- call statement('get_columns_in_relation', fetch_result=True) -%}
        select
            attribute.attname as column_name,
            case
                when attribute.atttypid in ('character varying'::regtype, 'character'::regtype)
                    then format_type(attribute.atttypid, null)
                else format_type(attribute.atttypid, attribute.atttypmod)
            end as data_type,
            information_schema._pg_char_max_length(attribute.atttypid, attribute.atttypmod)
                as character_maximum_length,
            null::integer as numeric_precision,
            null::integer as numeric_scale
        from pg_attribute as attribute
        inner join pg_class as class on class.oid = attribute.attrelid
        inner join pg_namespace as namespace on namespace.oid = class.relnamespace
        where
            class.relname = '{{ relation.identifier }}'
            {%- if relation.schema %}
            and namespace.nspname = '{{ relation.schema }}'
            {%- else %}
            and namespace.oid = pg_my_temp_schema()
            {%- endif %}
            and attribute.attnum > 0
            and not attribute.attisdropped
        order by attribute.attnum
    {%- endcall -%}
    {%- do return(sql_convert_columns_in_relation(load_result('get_columns_in_relation').table)) -%}
{%- endmacro -%}

{#-
    A pre-hook of marts where any is made anew: one at a time. Making a table with foreign keys locks the dimensions, and so
    does dropping the table that it replaces, in the opposite order: two at once would deadlock. Nothing is lost, since
    those locks exclude each other anyway. The number is storage.locks.AdvisoryLock.MART_REBUILD.
-#}
{%- macro rebuild_one_at_a_time() -%}
    {%- if flags.FULL_REFRESH or env_var('TIDEMARK_DBT_ANEW', '') or not is_incremental() -%}
        {{ _rebuild_lock() }}
    {%- endif -%}
{%- endmacro -%}

{%- macro postgres__drop_table(relation) -%}
    {{ _rebuild_lock() }};
    drop table if exists {{ relation }} cascade
{%- endmacro -%}

{%- macro _rebuild_lock() -%}
    select pg_advisory_xact_lock(7430113855220)
{%- endmacro -%}
