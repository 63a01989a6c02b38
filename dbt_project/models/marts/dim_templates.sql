{{ config(unique_key='template_id', full_refresh=false, indexes=[{'columns': ['tenant_id', 'template']}]) }}

with templates as not materialized (
    select * from {{ ref('stg_templates') }}
),

final as (
    select
        template_id,
        tenant_id,
        template,
        first_seen_at
    from templates
)

{{ changed_rows('final', ['template_id', 'tenant_id', 'template', 'first_seen_at']) }}
