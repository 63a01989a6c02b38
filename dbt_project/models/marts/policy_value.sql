{{ config(
    unique_key='policy_value_id',
    indexes=[{'columns': ['tenant_id', 'template_id']}],
    post_hook="
        delete from {{ this }}
        where (tenant_id, template_id, extractor_vendor, extractor_model, estimator) not in (
            select tenant_id, template_id, extractor_vendor, extractor_model, estimator
            from {{ ref('stg_policy_value') }}
        )
    "
) }}

with estimates as not materialized (
    select * from {{ ref('stg_policy_value') }}
),

final as (
    select
        {{ surrogate_key(['tenant_id', 'template_id', 'extractor_vendor', 'extractor_model', 'estimator']) }}
            as policy_value_id,
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        objective,
        estimator,
        estimate,
        lower,
        upper,
        on_policy_value,
        gain,
        gain_lower,
        gain_upper,
        logged_count,
        effective_sample_size,
        largest_weight,
        refusal,
        computed_at
    from estimates
)

{{ changed_rows('final', [
    'policy_value_id', 'tenant_id', 'template_id', 'template', 'extractor_vendor', 'extractor_model', 'objective',
    'estimator', 'estimate', 'lower', 'upper', 'on_policy_value', 'gain', 'gain_lower', 'gain_upper', 'logged_count',
    'effective_sample_size', 'largest_weight', 'refusal', 'computed_at'
]) }}
