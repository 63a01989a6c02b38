{#-
    A build makes a model anew where it is told to, or where Tidemark's build names it: its definition is another one
    than that by which its table was made (assets/warehouse/definitions.py).
-#}
{%- macro should_full_refresh() -%}
    {%- do return(config.get('full_refresh') if config.get('full_refresh') is not none else is_restated()) -%}
{%- endmacro -%}

{#- Whether whatever a model is made from may say something else than before, also of what is not new. -#}
{%- macro is_restated() -%}
    {%- do return(flags.FULL_REFRESH or model.name in env_var('TIDEMARK_DBT_ANEW', '').split(',')) -%}
{%- endmacro -%}

{#-
    What a build need not do again. Tidemark's build names the models whose definition and descriptions are those by
    which they were made (assets/warehouse/definitions.py). For them dbt would remake every view, write every comment and
    ask for every column at each build: with nothing new to count that was two thirds of the time.
-#}
{%- macro is_standing() -%}
    {%- do return(model.name in env_var('TIDEMARK_DBT_STANDING', '').split(',')) -%}
{%- endmacro -%}

{%- macro postgres__persist_docs(relation, model, for_relation, for_columns) -%}
    {%- if not is_standing() or not is_incremental() -%}
        {%- do default__persist_docs(relation, model, for_relation, for_columns) -%}
    {%- endif -%}
{%- endmacro -%}

{%- macro postgres__process_schema_changes(on_schema_change, source_relation, target_relation) -%}
    {%- if not is_standing() -%}
        {%- do return(default__process_schema_changes(on_schema_change, source_relation, target_relation)) -%}
    {%- endif -%}
    {%- set columns = [] -%}
    {%- for column in model.columns.values() -%}
        {%- do columns.append(api.Column.create(column.name, column.data_type)) -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{%- endmacro -%}

{#- Their increments need no proof of a contract that the whole has given, and that only another definition could break. -#}
{%- macro postgres__get_assert_columns_equivalent(sql) -%}
    {%- if not (is_standing() and is_incremental() and config.get('access') == 'private') -%}
        {{ return(default__get_assert_columns_equivalent(sql)) }}
    {%- endif -%}
{%- endmacro -%}

{%- materialization view, adapter='postgres' -%}
    {%- set existing_relation = load_cached_relation(this) -%}
    {%- set target_relation = this.incorporate(type='view') -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- if is_standing() and existing_relation is not none and existing_relation.is_view -%}
        {%- call noop_statement('main', 'STANDS') -%}{{ sql }}{%- endcall -%}
    {%- else -%}
        {%- if existing_relation is not none -%}
            {%- do adapter.drop_relation(existing_relation) -%}
        {%- endif -%}
        {%- call statement('main') -%}{{ get_create_view_as_sql(target_relation, sql) }}{%- endcall -%}
        {%- do default__persist_docs(target_relation, model, true, true) -%}
        {{ run_hooks(post_hooks, inside_transaction=True) }}
        {%- do adapter.commit() -%}
    {%- endif -%}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {%- do return({'relations': [target_relation]}) -%}
{%- endmaterialization -%}
