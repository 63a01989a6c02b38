{{ config(unique_key='template_id', full_refresh=false, indexes=[{'columns': ['tenant_id', 'template']}]) }}

-- Looked at after the batches: what these name is in here, whatever lands during the build.
-- depends_on: {{ ref('int_batches') }}
with templates as not materialized (
    select * from {{ ref('stg_templates') }}
),

-- A tenant made since dim_tenants was: left to the next build.
known_tenants as not materialized (
    select tenant_id from {{ ref('dim_tenants') }}
),

final as (
    select
        template_id,
        tenant_id,
        template,
        first_seen_at
    from templates
    where tenant_id in (select known_tenants.tenant_id from known_tenants)
)

{{ changed_rows('final', ['template_id', 'tenant_id', 'template', 'first_seen_at']) }}
