{#-
    The measures of evaluations, all of which merge: rows of any two parts of the same group make the row of both.
    Counts and sums add, extremes are the extreme of both, histograms add bin by bin. The sums are numeric and thereby
    exact, so that the order in which parts are merged shows nowhere.
-#}
{%- macro merged_measures() -%}
    sum(evaluation_count)::bigint as evaluation_count,
    sum(late_count)::bigint as late_count,
    sum(drift_count)::bigint as drift_count,
    trim_scale(sum(drift_sum)) as drift_sum,
    trim_scale(sum(drift_sum_sq)) as drift_sum_sq,
    min(drift_min) as drift_min,
    max(drift_max) as drift_max,
    sum(drift_histogram) as drift_histogram,
    sum(reliability_count)::bigint as reliability_count,
    trim_scale(sum(reliability_sum)) as reliability_sum,
    trim_scale(sum(reliability_sum_sq)) as reliability_sum_sq,
    min(reliability_min) as reliability_min,
    max(reliability_max) as reliability_max,
    sum(reliability_histogram) as reliability_histogram,
    min(first_evaluated_at) as first_evaluated_at,
    max(last_evaluated_at) as last_evaluated_at,
    {{ merged_feedback_measures() }}
{%- endmacro -%}

{%- macro merged_feedback_measures() -%}
    sum(feedback_count)::bigint as feedback_count,
    sum(success_count)::bigint as success_count,
    sum(failure_count)::bigint as failure_count,
    sum(fields_correct)::bigint as fields_correct,
    sum(fields_total)::bigint as fields_total,
    max(last_feedback_at) as last_feedback_at
{%- endmacro -%}

{#- What evaluations cost, kept by extractor alone. -#}
{%- macro merged_costs() -%}
    sum(cost_count)::bigint as cost_count,
    trim_scale(sum(cost_sum)) as cost_sum,
    sum(latency_count)::bigint as latency_count,
    trim_scale(sum(latency_sum)) as latency_sum,
    trim_scale(sum(latency_sum_sq)) as latency_sum_sq
{%- endmacro -%}

{%- macro cost_names() -%}
    cost_count,
    cost_sum,
    latency_count,
    latency_sum,
    latency_sum_sq
{%- endmacro -%}

{%- macro measure_names() -%}
    evaluation_count,
    late_count,
    drift_count,
    drift_sum,
    drift_sum_sq,
    drift_min,
    drift_max,
    drift_histogram,
    reliability_count,
    reliability_sum,
    reliability_sum_sq,
    reliability_min,
    reliability_max,
    reliability_histogram,
    first_evaluated_at,
    last_evaluated_at,
    feedback_count,
    success_count,
    failure_count,
    fields_correct,
    fields_total,
    last_feedback_at
{%- endmacro -%}
