{{ config(
    unique_key='extractor_change_id',
    indexes=[{'columns': ['tenant_id', 'template_id']}],
    post_hook="
        delete from {{ this }}
        where (tenant_id, template_id, extractor_vendor, extractor_model) not in (
            select tenant_id, template_id, extractor_vendor, extractor_model from {{ ref('stg_extractor_changes') }}
        )
    "
) }}

with changes as not materialized (
    select * from {{ ref('stg_extractor_changes') }}
),

final as (
    select
        {{ surrogate_key(['tenant_id', 'template_id', 'extractor_vendor', 'extractor_model']) }}
            as extractor_change_id,
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        objective,
        changed_on,
        found_on,
        evidence_to,
        mean_before,
        mean_after,
        count_before,
        count_after,
        statistic,
        computed_at
    from changes
)

{{ changed_rows('final', [
    'extractor_change_id', 'tenant_id', 'template_id', 'template', 'extractor_vendor', 'extractor_model', 'objective',
    'changed_on', 'found_on', 'evidence_to', 'mean_before', 'mean_after', 'count_before', 'count_after', 'statistic',
    'computed_at'
]) }}
