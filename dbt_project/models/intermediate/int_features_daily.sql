{{ config(
    unique_key=['tenant_id', 'template_id', 'feature', 'date'],
    indexes=[
        {'columns': ['tenant_id', 'template_id', 'feature', 'date'], 'unique': true},
        {'columns': ['fold_id']}
    ],
    pre_hook="{{ follow(['int_batches']) }}"
) }}

with batches as not materialized (
    select * from {{ ref('int_batches') }}
),

evaluations as not materialized (
    select * from {{ ref('stg_evaluations') }}
    where features is not null
),

arrived as (
    {{ arrived_evaluations('batches', 'evaluations') }}
),

sent as (
    select
        arrived.date,
        arrived.tenant_id,
        arrived.template_id,
        arrived.template,
        pairs.key as feature,
        case jsonb_typeof(pairs.value)
            when 'number' then (pairs.value #>> '{}')::numeric
            when 'boolean' then (pairs.value::boolean)::integer::numeric
        end as number,
        jsonb_typeof(pairs.value) = 'null' as is_null
    from arrived
    cross join lateral jsonb_each(arrived.features) as pairs (key, value) -- noqa: RF01
    -- An index takes no name of some kilobytes, and one such record would fail every build from then on.
    where length(pairs.key) <= 200
),

-- Fifteen digits before and after the point: beyond them sums of squares would grow to thousands of digits.
measured as (
    select
        date,
        tenant_id,
        template_id,
        template,
        feature,
        is_null,
        case when abs(number) < 1e15 then round(number, 15) end as number
    from sent
),

new_parts as (
    select
        date,
        tenant_id,
        template_id,
        template,
        feature,
        count(*) as sent_count,
        count(*) filter (where is_null) as null_count,
        count(number) as value_count,
        coalesce(sum(number), 0) as value_sum,
        coalesce(sum(number * number), 0) as value_sum_sq
    from measured
    group by date, tenant_id, template_id, template, feature
),

parts as (
    select * from new_parts
    {% if was_built_before() %}
    union all
    select
        known.date,
        known.tenant_id,
        known.template_id,
        known.template,
        known.feature,
        known.sent_count,
        known.null_count,
        known.value_count,
        known.value_sum,
        known.value_sum_sq
    {% if is_incremental() %}
    from new_parts
    inner join {{ this }} as known
        on new_parts.tenant_id = known.tenant_id
        and new_parts.template_id = known.template_id
        and new_parts.feature = known.feature
        and new_parts.date = known.date
    {% else %}
    from {{ this }} as known
    where known.date < raw.dropped_before()
    {% endif %}
    {% endif %}
),

final as (
    select
        date,
        tenant_id,
        template_id,
        template,
        feature,
        sum(sent_count)::bigint as sent_count,
        sum(null_count)::bigint as null_count,
        sum(value_count)::bigint as value_count,
        trim_scale(sum(value_sum)) as value_sum,
        trim_scale(sum(value_sum_sq)) as value_sum_sq,
        (select intermediate.fold_to('{{ this.identifier }}')) as fold_id
    from parts
    group by date, tenant_id, template_id, template, feature
)

select * from final
