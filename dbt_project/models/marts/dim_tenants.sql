{{ config(unique_key='tenant_id', full_refresh=false) }}

-- Looked at after the batches: what these name is in here, whatever lands during the build.
-- depends_on: {{ ref('int_batches') }}
with tenants as not materialized (
    select * from {{ ref('stg_tenants') }}
),

final as (
    select
        tenant_id,
        name,
        created_at
    from tenants
)

{{ changed_rows('final', ['tenant_id', 'name', 'created_at']) }}
