{{ config(
    unique_key='drift_history_version_id',
    full_refresh=false,
    indexes=[{'columns': ['tenant_id', 'template_id', 'date', 'known_from']}, {'columns': ['known_to']}],
    pre_hook="{{ follow(['int_templates_daily']) }}",
    post_hook=["{{ drift_history_as_of() }}"]
) }}

with templates_daily as not materialized (
    select * from {{ ref('int_templates_daily') }}
    -- Made anew, any day may say something else than before, and a day may be gone.
    {% if is_incremental() and not is_restated() %}
    where {{ in_new_folds() }}
    {% endif %}
),

known_now as (
    select
        {{ surrogate_key(['date', 'tenant_id', 'template_id']) }} as drift_history_id,
        date,
        tenant_id,
        template_id,
        template,
        {{ mean_of('drift_sum', 'drift_count') }} as drift_score,
        {{ mean_of('reliability_sum', 'reliability_count') }} as reliability_score,
        evaluation_count,
        drift_count
    from templates_daily
),

{% if is_incremental() %}
replaced as (
    select
        versions.drift_history_version_id,
        versions.drift_history_id,
        versions.date,
        versions.tenant_id,
        versions.template_id,
        versions.template,
        versions.drift_score,
        versions.reliability_score,
        versions.evaluation_count,
        versions.drift_count,
        versions.known_from,
        now() as known_to
    from {{ this }} as versions
    {{ 'left' if is_restated() else 'inner' }} join known_now
        on versions.tenant_id = known_now.tenant_id
        and versions.template_id = known_now.template_id
        and versions.date = known_now.date
    where
        versions.known_to is null
        and (
            known_now.drift_score, known_now.reliability_score, known_now.evaluation_count, known_now.drift_count
        ) is distinct from (
            versions.drift_score, versions.reliability_score, versions.evaluation_count, versions.drift_count
        )
),
{% endif %}

begun as (
    select
        {{ surrogate_key(['drift_history_id', 'now()']) }} as drift_history_version_id,
        *,
        now() as known_from,
        null::timestamptz as known_to
    from known_now
    {% if is_incremental() %}
    where
        not exists (
            select 1 from {{ this }} as versions
            where
                versions.tenant_id = known_now.tenant_id
                and versions.template_id = known_now.template_id
                and versions.date = known_now.date
                and versions.known_to is null
                and not exists (
                    select 1 from replaced
                    where replaced.drift_history_version_id = versions.drift_history_version_id
                )
        )
    {% endif %}
),

final as (
    select * from begun
    {% if is_incremental() %}
    union all
    select * from replaced
    {% endif %}
)

select * from final
