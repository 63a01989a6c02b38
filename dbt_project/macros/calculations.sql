{#- One text key of several columns; JSON keeps ('a|b', 'c') and ('a', 'b|c') apart and writes dates in one way. -#}
{%- macro surrogate_key(columns) -%}
    md5(json_build_array({{ columns | join(', ') }})::text)
{%- endmacro -%}

{#- The mean of a mergeable sum; null where nothing was counted. -#}
{%- macro mean_of(total, number) -%}
    ({{ total }} / nullif({{ number }}, 0))::double precision
{%- endmacro -%}

{#- The sample standard deviation of mergeable sums; null below two values. Exact, because the sums are numeric. -#}
{%- macro stddev_of(number, total, total_sq) -%}
    sqrt(
        ({{ number }} * {{ total_sq }} - {{ total }} * {{ total }}) / nullif({{ number }}::numeric * ({{ number }} - 1), 0)
    )::double precision
{%- endmacro -%}

{#-
    A quantile of scores, from their histogram: linear within a bin of 0.02, which is the most that it can be off by, and
    never beyond the extremes. Null where nothing was counted.
-#}
{%- macro quantile_of(score, fraction) -%}
    least(
        greatest(intermediate.histogram_quantile({{ score }}_histogram, {{ fraction }}), {{ score }}_min), {{ score }}_max
    )
{%- endmacro -%}
