{{ config(
    unique_key='extractor_recommendation_id',
    indexes=[{'columns': ['tenant_id', 'template_id']}],
    post_hook="
        delete from {{ this }}
        where extractor_recommendation_id not in (select posterior_id from {{ ref('stg_extractor_posteriors') }})
    "
) }}

with posteriors as not materialized (
    select * from {{ ref('stg_extractor_posteriors') }}
),

-- As `tidemark recommend` orders them: most probably best, then the higher mean, then the name.
ranked as (
    select
        *,
        row_number() over (
            partition by tenant_id, template_id
            order by p_best desc, mean desc, extractor_vendor asc, extractor_model asc
        ) as place
    from posteriors
),

final as (
    select
        posterior_id as extractor_recommendation_id,
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        place = 1 as is_recommended,
        p_best,
        mean,
        lower,
        upper,
        alpha,
        beta,
        success_count,
        failure_count,
        computed_at
    from ranked
)

{{ changed_rows('final', [
    'extractor_recommendation_id', 'tenant_id', 'template_id', 'template', 'extractor_vendor', 'extractor_model',
    'is_recommended', 'p_best', 'mean', 'lower', 'upper', 'alpha', 'beta', 'success_count', 'failure_count',
    'computed_at'
]) }}
