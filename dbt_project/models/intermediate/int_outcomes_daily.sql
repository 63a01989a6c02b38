{{ config(
    unique_key=['tenant_id', 'template_id', 'date', 'extractor_vendor', 'extractor_model'],
    indexes=[
        {'columns': ['tenant_id', 'template_id', 'date', 'extractor_vendor', 'extractor_model'], 'unique': true},
        {'columns': ['fold_id']}
    ],
    pre_hook="{{ follow_increments(['int_feedback_versions']) }}"
) }}

with feedback_versions as not materialized (
    select * from {{ ref('int_feedback_versions') }}
),

new_versions as (
    select distinct on (evaluation_id, tenant_id) *
    from feedback_versions
    where {{ in_new_folds() if is_incremental() else in_known_folds() }}
    order by evaluation_id asc, tenant_id asc, fold_id desc
),

-- What a corrected feedback said before is taken back.
changes as (
    select
        new_versions.*,
        1 as sign,
        false as withdraws_fields
    from new_versions
    {% if is_incremental() %}
    union all
    select
        replaced.*,
        -1 as sign,
        new_versions.fields_total is null and replaced.fields_total is not null as withdraws_fields
    from new_versions
    inner join lateral (
        select earlier.*
        from feedback_versions as earlier
        where
            earlier.evaluation_id = new_versions.evaluation_id
            and earlier.tenant_id = new_versions.tenant_id
            and earlier.fold_id <= intermediate.fold_from('{{ this.identifier }}')
        order by earlier.fold_id desc
        limit 1
    ) as replaced on true
    {% endif %}
),

judged as (
    select
        *,
        case when not is_early then is_success::integer end as success_reward,
        case when not is_early then (fields_correct::numeric / fields_total)::numeric(21, 20) end as fields_reward
    from changes
),

-- Each decision once for the extractor that was chosen, and once for each among which it is known to have been.
chances as (
    select
        tenant_id,
        template_id,
        template,
        date,
        extractor_vendor,
        extractor_model,
        sign,
        true as is_chosen,
        is_early,
        propensity_problem,
        weight,
        eligible_extractors is null as is_open,
        success_reward,
        fields_reward,
        withdraws_fields
    from judged
    union all
    select
        judged.tenant_id,
        judged.template_id,
        judged.template,
        judged.date,
        split_part(eligible.extractor, '/', 1) as extractor_vendor,
        substr(eligible.extractor, strpos(eligible.extractor, '/') + 1) as extractor_model,
        judged.sign,
        false as is_chosen,
        false as is_early,
        null as propensity_problem,
        judged.weight,
        false as is_open,
        judged.success_reward,
        judged.fields_reward,
        false as withdraws_fields
    from judged
    cross join unnest(judged.eligible_extractors) as eligible (extractor)
    where judged.weight is not null and judged.success_reward is not null
),

additions as (
    select
        tenant_id,
        template_id,
        template,
        date,
        extractor_vendor,
        extractor_model,
        sum(sign) filter (where is_chosen and fields_reward is not null) as document_count,
        sum(sign) filter (where is_early) as early_feedback_count,
        {%- for problem in ['too_small', 'not_in_snapshot', 'at_odds'] %}
        sum(sign) filter (where propensity_problem = '{{ problem }}') as {{ problem }}_count,
        {%- endfor %}
        sum(sign * fields_reward) filter (where is_chosen) as rate_sum,
        sum(sign * fields_reward * fields_reward) filter (where is_chosen) as rate_sum_sq,
        {%- for objective in ['success', 'fields'] %}
        {%- set reward = objective ~ '_reward' %}
        {%- set logged = 'is_chosen and weight is not null and ' ~ reward ~ ' is not null' %}
        {%- set open = logged ~ ' and is_open' %}
        sum(sign) filter (where {{ logged }}) as {{ objective }}_logged_count,
        sum(sign * weight) filter (where {{ logged }}) as {{ objective }}_weight_sum,
        sum(sign * weight * weight) filter (where {{ logged }}) as {{ objective }}_weight_sq_sum,
        max(weight) filter (where {{ logged }} and sign = 1) as {{ objective }}_weight_max,
        sum(sign * {{ reward }}) filter (where {{ logged }}) as {{ objective }}_reward_sum,
        sum(sign * {{ reward }} * weight) filter (where is_chosen) as {{ objective }}_reward_weight_sum,
        sum(sign * {{ reward }} * weight * weight) filter (where is_chosen) as {{ objective }}_reward_weight_sq_sum,
        sum(sign * {{ reward }} * {{ reward }} * weight) filter (where is_chosen)
            as {{ objective }}_reward_sq_weight_sum,
        sum(sign * {{ reward }} * {{ reward }} * weight * weight) filter (where is_chosen)
            as {{ objective }}_reward_sq_weight_sq_sum,
        sum(sign) filter (where {{ open }}) as {{ objective }}_open_count,
        sum(sign * {{ reward }}) filter (where {{ open }}) as {{ objective }}_open_reward_sum,
        sum(sign * {{ reward }} * {{ reward }}) filter (where {{ open }}) as {{ objective }}_open_reward_sq_sum,
        sum(sign) filter (where not is_chosen and {{ reward }} is not null) as {{ objective }}_eligible_count,
        sum(sign * {{ reward }}) filter (where not is_chosen) as {{ objective }}_eligible_reward_sum,
        sum(sign * {{ reward }} * {{ reward }}) filter (where not is_chosen)
            as {{ objective }}_eligible_reward_sq_sum,
        {%- endfor %}
        bool_or(withdraws_fields) as withdraws_fields
    from chances
    group by tenant_id, template_id, template, date, extractor_vendor, extractor_model
),

parts as (
    select
        tenant_id,
        template_id,
        template,
        date,
        extractor_vendor,
        extractor_model,
        {{ outcome_names() }},
        withdraws_fields
    from additions
    {% if is_incremental() %}
    union all
    select
        daily.tenant_id,
        daily.template_id,
        daily.template,
        daily.date,
        daily.extractor_vendor,
        daily.extractor_model,
        {%- for measure in outcome_names().split(', ') %}
        daily.{{ measure }},
        {%- endfor %}
        false as withdraws_fields
    from additions
    inner join {{ this }} as daily
        on additions.tenant_id = daily.tenant_id
        and additions.template_id = daily.template_id
        and additions.date = daily.date
        and additions.extractor_vendor = daily.extractor_vendor
        and additions.extractor_model = daily.extractor_model
    {% endif %}
),

merged as (
    select
        tenant_id,
        template_id,
        template,
        date,
        extractor_vendor,
        extractor_model,
        bool_or(withdraws_fields) as withdraws_fields,
        {{ merged_outcomes() }}
    from parts
    group by tenant_id, template_id, template, date, extractor_vendor, extractor_model
),

-- What is taken back may have weighed most. Of success nothing can be: whatever feedback there is says it.
latest as (
    select distinct on (versions.evaluation_id, versions.tenant_id) versions.*
    from merged
    inner join feedback_versions as versions
        on merged.tenant_id = versions.tenant_id
        and merged.template_id = versions.template_id
        and merged.date = versions.date
        and merged.extractor_vendor = versions.extractor_vendor
        and merged.extractor_model = versions.extractor_model
    where merged.withdraws_fields and {{ in_known_folds('versions.fold_id') }}
    order by versions.evaluation_id asc, versions.tenant_id asc, versions.fold_id desc
),

remeasured as (
    select
        tenant_id,
        template_id,
        date,
        extractor_vendor,
        extractor_model,
        max(weight) filter (where fields_total is not null and not is_early) as fields_weight_max
    from latest
    group by tenant_id, template_id, date, extractor_vendor, extractor_model
),

final as (
    select
        merged.tenant_id,
        merged.template_id,
        merged.template,
        merged.date,
        merged.extractor_vendor,
        merged.extractor_model,
        {%- for measure in (outcome_counts() ~ ' ' ~ outcome_sums()).split() %}
        merged.{{ measure }},
        {%- endfor %}
        merged.success_weight_max,
        case
            when merged.withdraws_fields then remeasured.fields_weight_max
            else merged.fields_weight_max
        end as fields_weight_max,
        (select intermediate.fold_to('{{ this.identifier }}')) as fold_id
    from merged
    left join remeasured
        on merged.tenant_id = remeasured.tenant_id
        and merged.template_id = remeasured.template_id
        and merged.date = remeasured.date
        and merged.extractor_vendor = remeasured.extractor_vendor
        and merged.extractor_model = remeasured.extractor_model
)

select * from final
