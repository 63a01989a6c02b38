"""The roof's one view: every room's assets, checks and sensors put together as Dagster Definitions."""

import dagster as dg

from assets.access.assets import audit_assets
from assets.cadence import NIGHTLY
from assets.drop_folder.assets import dropped_files
from assets.evaluations.assets import landing_assets
from assets.forecasts.assets import definitions as forecasts
from assets.forecasts.checks import agrees_with_prophet
from assets.reports.assets import definitions as reports
from assets.selection.assets import definitions as selection
from assets.warehouse.assets import care_assets, warehouse_assets
from assets.warehouse.checks import choices_can_be_used, declared_batches_arrived, readers_see_only_their_tenants
from orchestration.alert_marts_sensor import alert_marts_sensor
from orchestration.arrivals_sensor import arrivals_sensor
from orchestration.dagster_retention import dagster_retention
from orchestration.drop_sensor import drop_folder_sensor
from orchestration.executors import forecast_executor
from orchestration.jobs import (
    ALERT_MARTS_JOB,
    DROP_FOLDER_JOB,
    FORECASTS,
    RECONCILE_BATCHES_JOB,
    REPORTS_JOB,
    forecast_job,
    forecasts_follow,
    nightly,
    nightly_job,
    refresh_job,
    weekly_reports,
)
from orchestration.manifest_sensor import manifest_sensor
from orchestration.partitions import DAYS
from sensors.alerts.assets import alert_log_retention
from sensors.alerts.sensors import alert_sensor, alerts_asset
from sensors.assets import alerting_health, deliveries_arrive, deliveries_asset, evaluations_are_judged
from sensors.webhooks.assets import delivery_log_retention, replay_webhook_deliveries
from sensors.webhooks.sensors import definitions as webhooks
from storage.clock import Clock
from storage.database import Database, open_database
from storage.logging import configure_logging
from storage.settings import Settings, load_settings


def build_definitions(
    *,
    settings: Settings | None = None,
    database: Database | None = None,
    clock: Clock | None = None,
) -> dg.Definitions:
    """Everything Dagster knows of Tidemark.

    Each override takes the place of what a run would find out for itself from the environment; tests and the command
    line hand in what they have at hand already.
    """

    def current_settings() -> Settings:
        return settings or load_settings()

    warehouse, care = warehouse_assets(), care_assets()
    apart = current_settings().forecast_executor != "in_process"
    elsewhere = FORECASTS if apart else None
    refreshing = [refresh_job([*warehouse, *care, agrees_with_prophet], elsewhere), nightly_job(elsewhere)]
    forecasting = forecast_job(forecast_executor(current_settings()))
    return dg.Definitions(
        assets=[
            *landing_assets(DAYS),
            dropped_files,
            *warehouse,
            *care,
            *forecasts(),
            *selection(),
            alerts_asset(),
            deliveries_asset(),
            alert_log_retention(NIGHTLY),
            delivery_log_retention(NIGHTLY),
            *audit_assets(),
            dagster_retention,
            *reports(),
        ],
        asset_checks=[
            readers_see_only_their_tenants,
            choices_can_be_used,
            declared_batches_arrived,
            evaluations_are_judged,
            deliveries_arrive,
            agrees_with_prophet,
        ],
        jobs=[
            *refreshing,
            forecasting,
            ALERT_MARTS_JOB,
            RECONCILE_BATCHES_JOB,
            REPORTS_JOB,
            DROP_FOLDER_JOB,
            replay_webhook_deliveries,
        ],
        schedules=[nightly, weekly_reports],
        sensors=[
            arrivals_sensor(),
            alert_marts_sensor(),
            drop_folder_sensor(),
            manifest_sensor(RECONCILE_BATCHES_JOB.name),
            alert_sensor(ALERT_MARTS_JOB.name),
            *webhooks(),
            alerting_health,
            *([forecasts_follow(refreshing, forecasting)] if apart else []),
        ],
        resources={
            "database": dg.ResourceDefinition(lambda _: database or open_database(current_settings())),
            "settings": dg.ResourceDefinition(lambda _: current_settings()),
            "clock": clock or Clock(),
        },
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `workspace.yaml` names: nothing is built before Dagster asks."""
    configure_logging(load_settings())
    return build_definitions()
