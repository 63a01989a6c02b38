"""The sensor `alert_marts`: to acknowledge an alert, pause an endpoint or retire an extractor makes no arrival."""

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from assets.warehouse.alert_marts import alert_marts_are_behind
from orchestration.jobs import ALERT_MARTS_JOB
from orchestration.patience import pause_after
from orchestration.under_way import refresh_under_way
from storage.clock import Clock
from storage.database import Database

_FAILURES_BEFORE_HELP = 5


def alert_marts_sensor() -> dg.SensorDefinition:
    """The sensor that asks for the marts of alerts, endpoints and recommendations when they show what is no more."""

    @dg.sensor(
        name="alert_marts",
        job_name=ALERT_MARTS_JOB.name,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for the marts of alerts, endpoints and recommendations when they show what is no more.",
    )
    def alert_marts(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]
    ) -> dg.RunRequest | dg.SkipReason:
        with database.connect(autocommit=True) as connection:
            if not alert_marts_are_behind(connection):
                return dg.SkipReason("The marts show alerts, endpoints and recommendations as they are.")
            if refresh_under_way(context.instance, connection):
                return dg.SkipReason("A refresh is under way; what it leaves behind is taken up after it.")
        wait = pause_after(_failures(context.instance), clock)
        # Without a run key: the same may be done, undone and done again.
        return dg.SkipReason(wait) if wait else dg.RunRequest()

    return alert_marts


def _failures(instance: dg.DagsterInstance) -> list[dg.RunRecord]:
    records = instance.get_run_records(RunsFilter(job_name=ALERT_MARTS_JOB.name), limit=_FAILURES_BEFORE_HELP)
    statuses = [record.dagster_run.status for record in records]
    failed = next((at for at, status in enumerate(statuses) if status is not DagsterRunStatus.FAILURE), len(records))
    return list(records[:failed])
