{{ config(
    unique_key='drift_forecast_id',
    indexes=[{'columns': ['tenant_id', 'template_id', 'date']}, {'columns': ['computed_at']}],
    pre_hook="{{ join_by_index() }}"
) }}

-- depends_on: {{ ref('stg_drift_forecasts') }}
{{ forecasts_of('drift', 'drift_forecast_id') }}
