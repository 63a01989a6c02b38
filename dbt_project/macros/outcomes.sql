{#-
    How outcomes are judged and added up, for what learns from them. All of it adds, but for the largest weights.
-#}

{#- Feedback from before its evaluation is about another one, or from a clock that is wrong by more than the door allows. -#}
{%- macro is_early(feedback_at, evaluated_at) -%}
    {{ feedback_at }} < {{ evaluated_at }} - interval '5 minutes'
{%- endmacro -%}

{#- Whether an evaluation's propensity says how its extractor was chosen. A missing one is never made up. -#}
{%- macro estimates(evaluation) -%}
    {{ evaluation }}.propensity is not null and coalesce({{ evaluation }}.assigned_by, 'share') = 'share'
{%- endmacro -%}

{#- What keeps such a propensity from being used. Below a billionth, one decision would be all of an estimate. -#}
{%- macro propensity_problem(evaluation, snapshot) -%}
    case
        when not ({{ estimates(evaluation) }}) then null
        when {{ evaluation }}.propensity < 1e-9 then 'too_small'
        when {{ snapshot }}.is_known and {{ snapshot }}.share is null then 'not_in_snapshot'
        when {{ snapshot }}.is_known and abs({{ snapshot }}.share - {{ evaluation }}.propensity) > 1e-9 then 'at_odds'
    end
{%- endmacro -%}

{#- By way of text, because a plain cast keeps 15 digits of the 17 that a double can have. -#}
{%- macro weight_of(evaluation, snapshot) -%}
    case
        when {{ estimates(evaluation) }} and {{ propensity_problem(evaluation, snapshot) }} is null
            then 1 / {{ evaluation }}.propensity::text::numeric
    end
{%- endmacro -%}

{#- The names of what adds up: whole numbers, and numerics that are exact, so that order shows nowhere. -#}
{%- macro outcome_counts() -%}
document_count early_feedback_count too_small_count not_in_snapshot_count at_odds_count
{%- for objective in ['success', 'fields'] %} {{ objective }}_logged_count {{ objective }}_open_count {{ objective }}_eligible_count
{%- endfor -%}
{%- endmacro -%}

{%- macro outcome_sums() -%}
rate_sum rate_sum_sq
{%- for objective in ['success', 'fields'] -%}
    {%- for sum in [
        'weight_sum', 'weight_sq_sum', 'reward_sum', 'reward_weight_sum', 'reward_weight_sq_sum', 'reward_sq_weight_sum',
        'reward_sq_weight_sq_sum', 'open_reward_sum', 'open_reward_sq_sum', 'eligible_reward_sum', 'eligible_reward_sq_sum'
    ] %} {{ objective }}_{{ sum }}
    {%- endfor -%}
{%- endfor -%}
{%- endmacro -%}

{%- macro outcome_maxima() -%}
success_weight_max fields_weight_max
{%- endmacro -%}

{%- macro outcome_names() -%}
    {{ (outcome_counts() ~ ' ' ~ outcome_sums() ~ ' ' ~ outcome_maxima()).split() | join(', ') }}
{%- endmacro -%}

{%- macro merged_outcomes() -%}
    {%- for measure in outcome_counts().split() %}
        coalesce(sum({{ measure }}), 0)::bigint as {{ measure }},
    {%- endfor %}
    {%- for measure in outcome_sums().split() %}
        coalesce(trim_scale(sum({{ measure }})), 0) as {{ measure }},
    {%- endfor %}
    {%- for measure in outcome_maxima().split() %}
        max({{ measure }}) as {{ measure }}{{ "," if not loop.last }}
    {%- endfor %}
{%- endmacro -%}

{#- A pre-hook of the quarantine: what its restated days had. What was mended is no row any more, which no merge removes. -#}
{%- macro forget_restated_quarantine() -%}
    {%- if is_incremental() -%}
    delete from {{ this }} as standing
    using {{ ref('int_outcomes_daily') }} as outcomes
    where
        {{ in_new_folds('outcomes.fold_id') }}
        and standing.tenant_id = outcomes.tenant_id
        and standing.template_id = outcomes.template_id
        and standing.date = outcomes.date
        and standing.extractor_vendor = outcomes.extractor_vendor
        and standing.extractor_model = outcomes.extractor_model
    {%- endif -%}
{%- endmacro -%}

{#- Each reason for quarantine with its count of a day, the field that is to blame, and what mends it. -#}
{%- macro quarantine_reasons(outcomes) -%}
    (
        values
        (
            'feedback_before_decision', {{ outcomes }}.early_feedback_count, 'created_at',
            'Send the time at which the feedback was given, and name the evaluation that it is about.'
        ),
        (
            'propensity_too_small', {{ outcomes }}.too_small_count, 'propensity',
            'Send the probability with which the extractor was chosen: none below 1e-9 can estimate anything.'
        ),
        (
            'extractor_not_in_snapshot', {{ outcomes }}.not_in_snapshot_count, 'snapshot_id',
            'Send the snapshot by which the extractor was chosen, or assigned_by if it was not by its share.'
        ),
        (
            'propensity_at_odds', {{ outcomes }}.at_odds_count, 'propensity',
            'Send propensity and snapshot_id as one recommendation gave them.'
        )
    )
{%- endmacro -%}
