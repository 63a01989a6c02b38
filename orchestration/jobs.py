"""Jobs and schedules: what is refreshed together, and when it is refreshed without anything arriving."""

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.cadence import CHECK_TAGS, EACH_BUILD, NIGHTLY
from assets.drop_folder import assets as drop_folder
from assets.forecasts.checks import agrees_with_prophet
from orchestration.partitions import DAYS
from orchestration.refresh import FORECAST_JOB, NIGHTLY_JOB, REFRESH_JOB

# Dagster queues such runs one behind the other; see the limit in `orchestration.instance`.
BUILDS_MARTS = {"tidemark/builds_marts": "true"}

REPORTS = dg.AssetSelection.groups("reports")
_OF_FORECASTS = dg.AssetSelection.groups("forecasts")
# What forecasts write, and what shows it; but for the comparison with Prophet, which the night's run makes.
FORECASTS = (
    _OF_FORECASTS | (_OF_FORECASTS.downstream() & dg.AssetSelection.groups("staging", "marts"))
) - dg.AssetSelection.checks(*agrees_with_prophet.check_keys)
DROP_FOLDER = dg.AssetSelection.groups(drop_folder.GROUP)
_NIGHTLY_SELECTION = dg.AssetSelection.all() - REPORTS - DROP_FOLDER


def refresh_job(
    checked: Sequence[dg.AssetsDefinition], elsewhere: dg.AssetSelection | None = None
) -> UnresolvedAssetJobDefinition:
    """The refresh: the whole graph, but neither what looks after it nor the tests that read whole tables.

    Args:
        checked: those of whose checks some are for the night alone, which they say by their tags.
        elsewhere: what another job brings up to date.
    """
    too_much = [spec.key for assets_def in checked for spec in assets_def.check_specs if _is_nightly_only(spec)]
    whole = _without(_NIGHTLY_SELECTION, elsewhere)
    return dg.define_asset_job(
        REFRESH_JOB,
        selection=whole - dg.AssetSelection.tag(NIGHTLY, "") - dg.AssetSelection.checks(*too_much),
        partitions_def=DAYS,
        tags=BUILDS_MARTS,
        description="The whole graph: landed evaluations judged, marts built, forecasts and posteriors brought up to "
        "date. Tests of whole tables are left to the nightly run.",
    )


def _is_nightly_only(spec: dg.AssetCheckSpec) -> bool:
    tags = (spec.metadata or {}).get(CHECK_TAGS, ())
    return NIGHTLY in tags and EACH_BUILD not in tags


ALERT_MARTS_JOB = dg.define_asset_job(
    "refresh_alert_marts",
    # With the dimensions, because an alert may be the first that is heard of a template or of a tenant.
    selection=dg.AssetSelection.assets(
        ["staging", "stg_alerts"],
        ["marts", "dim_tenants"],
        ["marts", "dim_templates"],
        ["marts", "recent_alerts"],
        ["marts", "overview"],
        ["staging", "stg_webhooks"],
        ["staging", "stg_webhook_deliveries"],
        ["marts", "webhook_health"],
        ["staging", "stg_extractor_recommendations"],
        ["marts", "extractor_recommendations"],
    ),
    tags=BUILDS_MARTS,
    description="The marts that show alerts, endpoints and recommendations, after an alert has fired or somebody has "
    "changed how one stands.",
)

RECONCILE_BATCHES_JOB = dg.define_asset_job(
    "reconcile_batches",
    # With the dimension, because a declaration may be the first that is heard of a tenant.
    selection=dg.AssetSelection.assets(
        ["staging", "stg_batch_manifests"], ["marts", "dim_tenants"], ["marts", "batch_reconciliation"]
    ),
    tags=BUILDS_MARTS,
    description="Which declared batches have arrived, when the time of one is over and nothing asks for a refresh.",
)

# Without the tag: it reads one snapshot a tenant, so it need not wait for runs that build marts, nor they for it.
REPORTS_JOB = dg.define_asset_job(
    "write_reports", selection=REPORTS, description="Each tenant's report, from the marts as they are."
)

# Without the tag too: what it lands is taken up by a refresh, as whatever came through another door is.
DROP_FOLDER_JOB = dg.define_asset_job(
    "land_dropped_files", selection=DROP_FOLDER, description="Lands what lies ready in the drop folder."
)

# Running by itself, because it tells nobody anything and keeps few files; a report that must be switched on first
# is missing on the day it is wanted. By then the refresh of Sunday's complete day is long done.
weekly_reports = dg.ScheduleDefinition(
    name="weekly_reports",
    job=REPORTS_JOB,
    cron_schedule="0 6 * * 1",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Each Monday: the report of every tenant over the weeks that have passed.",
)


def nightly_job(elsewhere: dg.AssetSelection | None = None) -> UnresolvedAssetJobDefinition:
    """The night's run: the whole graph with all that looks after it.

    Args:
        elsewhere: what another job brings up to date.
    """
    return dg.define_asset_job(
        NIGHTLY_JOB,
        selection=_without(_NIGHTLY_SELECTION, elsewhere),
        partitions_def=DAYS,
        tags=BUILDS_MARTS,
        description="Everything, with every check; then counts are reconciled from door to mart, and only if they "
        "agree does what is older than its retention go. The audit log is sealed and verified before anything of it "
        "goes.",
    )


def forecast_job(executor: dg.ExecutorDefinition) -> UnresolvedAssetJobDefinition:
    """Forecasts alone, wherever the executor has their steps run."""
    return dg.define_asset_job(
        FORECAST_JOB,
        selection=FORECASTS,
        executor_def=executor,
        tags=BUILDS_MARTS,
        description="Forecasts and what shows them, from the marts as they are; where TIDEMARK_FORECAST_EXECUTOR says.",
    )


def forecasts_follow(
    jobs: Sequence[UnresolvedAssetJobDefinition], job: UnresolvedAssetJobDefinition
) -> dg.SensorDefinition:
    """The sensor that asks for forecasts when a refresh without them has succeeded."""

    @dg.run_status_sensor(
        name="forecasts_follow",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=list(jobs),
        request_job=job,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for forecasts when a refresh has succeeded, because they run apart from it.",
    )
    def follow(context: dg.RunStatusSensorContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.dagster_run.run_id)

    return follow


def _without(selection: dg.AssetSelection, elsewhere: dg.AssetSelection | None) -> dg.AssetSelection:
    return selection if elsewhere is None else selection - elsewhere


@dg.schedule(
    job_name=NIGHTLY_JOB,
    name=NIGHTLY_JOB,
    cron_schedule="15 0 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Each night: yesterday is complete, so its forecasts are judged even if nothing has arrived since.",
)
def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Ask for the day that has just ended."""
    yesterday = (context.scheduled_execution_time - timedelta(days=1)).date().isoformat()
    return dg.RunRequest(run_key=f"nightly-{yesterday}", partition_key=yesterday)
