-- Feature drift: which inputs of a template moved most, on its last day with features.
with latest as (
    select
        *,
        max(date) over (partition by tenant_id, template_id) as last_day
    from marts.feature_drift
)

select
    tenant_id,
    template,
    feature,
    date,
    mean,
    baseline_mean,
    shift,
    z_score,
    p_value,
    value_count,
    null_count
from latest
where date = last_day
order by abs(shift) desc nulls last
