-- Extractors side by side: what each did for a template, and which one the posteriors recommend.
select
    comparison.tenant_id,
    comparison.template,
    comparison.extractor_vendor,
    comparison.extractor_model,
    comparison.evaluation_count,
    comparison.evaluation_share,
    comparison.avg_drift_score,
    comparison.avg_reliability_score,
    comparison.review_rate,
    comparison.feedback_count,
    comparison.success_rate,
    comparison.field_accuracy,
    recommendation.p_best,
    recommendation.lower as success_rate_lower,
    recommendation.upper as success_rate_upper,
    coalesce(recommendation.is_recommended, false) as is_recommended
from marts.extractor_comparison as comparison
left join marts.extractor_recommendations as recommendation
    on
    comparison.template_id = recommendation.template_id
    and comparison.extractor_vendor = recommendation.extractor_vendor
    and comparison.extractor_model = recommendation.extractor_model
order by comparison.tenant_id asc, comparison.template asc, recommendation.p_best desc nulls last
