{#- Every condition holds in every row; a condition that is null (nothing to judge) holds. -#}
{% test holds(model, conditions) %}
    select *
    from {{ model }}
    where
        {%- for condition in conditions %}
        ({{ condition }}) is false{{ " or" if not loop.last }}
        {%- endfor %}
{% endtest %}
