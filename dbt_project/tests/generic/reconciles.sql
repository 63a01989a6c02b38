{#- The sums of measures, tenant by tenant, equal those of the aggregate that the model is made from. -#}
{% test reconciles(model, to, measures) %}
    with ours as (
        select
            tenant_id,
            {%- for measure in measures %}
            sum({{ measure }}) as measure_{{ loop.index }}{{ "," if not loop.last }}
            {%- endfor %}
        from {{ model }}
        group by tenant_id
    ),

    theirs as (
        select
            tenant_id,
            {%- for measure in measures.values() %}
            sum({{ measure }}) as measure_{{ loop.index }}{{ "," if not loop.last }}
            {%- endfor %}
        from {{ to }}
        group by tenant_id
    )

    select *
    from ours
    full join theirs using (tenant_id)
    where
        {%- for measure in measures %}
        coalesce(ours.measure_{{ loop.index }}, 0) <> coalesce(theirs.measure_{{ loop.index }}, 0)
        {{- " or" if not loop.last }}
        {%- endfor %}
{% endtest %}
