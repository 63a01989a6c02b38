{{ config(
    unique_key='selection_quarantine_id',
    indexes=[{'columns': ['tenant_id', 'date']}],
    pre_hook=[
        "{{ follow(['int_outcomes_daily']) }}",
        "{{ forget_restated_quarantine() }}"
    ]
) }}

with outcomes as not materialized (
    select * from {{ ref('int_outcomes_daily') }}
    {% if is_incremental() %}
    where {{ in_new_folds() }}
    {% endif %}
),

by_reason as (
    select
        outcomes.*,
        reasons.*
    from outcomes
    cross join lateral {{ quarantine_reasons('outcomes') }} as reasons (reason, decision_count, field, remedy)
    where reasons.decision_count > 0
),

final as (
    select
        {{ surrogate_key(['tenant_id', 'template_id', 'extractor_vendor', 'extractor_model', 'date', 'reason']) }}
            as selection_quarantine_id,
        tenant_id,
        template_id,
        template,
        extractor_vendor,
        extractor_model,
        date,
        reason,
        decision_count,
        field,
        remedy
    from by_reason
)

select * from final
