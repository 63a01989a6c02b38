{#-
    Opens a mart to its readers: role bi_reader sees the rows of its login role's tenants, role api_reader those of the
    tenant that the HTTP door acts for. A post-hook runs in the transaction that makes the table, so there is no moment
    without the policies. The subselects make PostgreSQL ask once a query, not once a row. REFERENCES is what shows keys
    to a role in information_schema; on one column that is no key, because with more a reader could make foreign keys and
    learn from them which rows others have. A table that is there already has them, and needs no more than its statistics.
-#}
{%- macro share_with_readers() -%}
    {%- if not is_incremental() -%}
        alter table {{ this }} enable row level security;
        create policy readers_see_their_tenants on {{ this }} for select to bi_reader
            using (tenant_id = any ((select access.reader_tenant_ids())::text []));
        create policy the_api_sees_its_tenant on {{ this }} for select to api_reader
            using (tenant_id = (select access.api_tenant_id()));
        {%- set no_key = model.columns | reject('equalto', config.get('unique_key')) | first %}
        grant select, references ({{ no_key }}) on {{ this }} to bi_reader;
        grant select on {{ this }} to api_reader;
    {%- endif -%}
    {{ analyze_if_needed() }}
{%- endmacro -%}
