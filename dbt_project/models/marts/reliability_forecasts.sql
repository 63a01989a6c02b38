{{ config(
    unique_key='reliability_forecast_id',
    indexes=[{'columns': ['tenant_id', 'template_id', 'date']}, {'columns': ['computed_at']}],
    pre_hook="{{ join_by_index() }}"
) }}

-- depends_on: {{ ref('stg_drift_forecasts') }}
{{ forecasts_of('reliability', 'reliability_forecast_id') }}
