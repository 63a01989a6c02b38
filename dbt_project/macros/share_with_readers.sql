{#-
    Opens a mart to BI: role bi_reader may select, and sees the rows of its login role's tenants only.
    A post-hook runs in the transaction that swaps the new table in, so there is no moment without the policy.
    The subselect makes PostgreSQL ask for the tenants once a query, not once a row. REFERENCES is what shows
    primary keys to a role in information_schema.
-#}
{%- macro share_with_readers(relation) -%}
    alter table {{ relation }} enable row level security;
    create policy readers_see_their_tenants on {{ relation }} for select to bi_reader
        using (tenant_id = any ((select access.reader_tenant_ids())::text []));
    grant select, references on {{ relation }} to bi_reader;
    analyze {{ relation }}
{%- endmacro -%}
