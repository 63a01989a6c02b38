{{ config(
    unique_key='extractor_recommendation_id',
    indexes=[{'columns': ['tenant_id', 'template_id', 'share_lo']}],
    post_hook="
        delete from {{ this }}
        where (tenant_id, template_id, extractor_vendor, extractor_model) not in (
            select tenant_id, template_id, extractor_vendor, extractor_model
            from {{ ref('stg_extractor_recommendations') }}
        )
    "
) }}

with published as not materialized (
    select * from {{ ref('stg_extractor_recommendations') }}
),

final as (
    select
        {{ surrogate_key(['tenant_id', 'template_id', 'extractor_vendor', 'extractor_model']) }}
            as extractor_recommendation_id,
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        is_recommended,
        decision,
        reason,
        objective,
        share_lo,
        share_hi,
        share_hi - share_lo as propensity,
        assigned_by,
        snapshot_id,
        p_best,
        expected_loss,
        mean,
        lower,
        upper,
        is_incumbent,
        p_worse_than_incumbent,
        is_cheapest,
        mean_cost_usd,
        mean_latency_ms,
        alpha,
        beta,
        effective_count,
        feedback_count,
        success_count,
        failure_count,
        restarted_on,
        value_remaining,
        evidence_to,
        published_at as computed_at
    from published
)

{{ changed_rows('final', [
    'extractor_recommendation_id', 'tenant_id', 'template_id', 'template', 'extractor_vendor', 'extractor_model',
    'is_recommended', 'decision', 'reason', 'objective', 'share_lo', 'share_hi', 'propensity', 'assigned_by',
    'snapshot_id', 'p_best', 'expected_loss', 'mean', 'lower', 'upper', 'is_incumbent', 'p_worse_than_incumbent',
    'is_cheapest', 'mean_cost_usd', 'mean_latency_ms', 'alpha', 'beta', 'effective_count', 'feedback_count',
    'success_count', 'failure_count', 'restarted_on', 'value_remaining', 'evidence_to', 'computed_at'
]) }}
