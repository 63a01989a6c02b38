"""The manifest sensor: a batch that was declared and does not come makes no arrival, so the clock has to ask for it."""

import dagster as dg

from assets.evaluations.manifests import overdue_since_last_build
from orchestration.under_way import refresh_under_way
from storage.clock import Clock
from storage.database import Database


def manifest_sensor(reconcile_job: str) -> dg.SensorDefinition:
    """The sensor `manifests`.

    Args:
        reconcile_job: name of the job that builds `batch_reconciliation` from what is in the warehouse.
    """

    @dg.sensor(
        name="manifests",
        job_name=reconcile_job,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for declared batches to be judged again when their time to arrive is over.",
    )
    def manifests(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]
    ) -> dg.RunRequest | dg.SkipReason:
        with database.connect(autocommit=True) as connection:
            overdue = overdue_since_last_build(connection)
            if overdue is None:
                return dg.SkipReason("No declared batch has become overdue since the last build.")
            if refresh_under_way(context.instance, connection):
                return dg.SkipReason("A refresh is under way, which judges them as well.")
        # With the hour, so that a run that failed is tried again, and not at each tick.
        return dg.RunRequest(run_key=f"manifests-{overdue.isoformat()}-{clock.now():%Y-%m-%dT%H}")

    return manifests
