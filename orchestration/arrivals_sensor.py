"""The arrivals sensor: follows landed batches and asks for one run a tick over the days they touch.

What people decide about extractors changes what is learnt of them, and asks for a run too; so does an upgrade, whose
migrations may drop what is computed.
"""

import dagster as dg
from dagster import DagsterRunStatus, RunRecord, RunsFilter

from assets.evaluations.arrivals import Arrivals, arrivals_since
from assets.selection.decided import decided_since_learning
from orchestration.patience import pause_after
from orchestration.refresh import (
    HORIZON_TAG,
    REFRESH_JOB,
    SCHEMA_TAG,
    Refresh,
    is_upgraded_since,
    plan_refresh,
    position,
)
from orchestration.under_way import refresh_under_way
from storage.clock import Clock
from storage.database import Database

_FAILURES_BEFORE_HELP = 5


def arrivals_sensor() -> dg.SensorDefinition:
    """The sensor that requests the refresh job for what has landed."""

    @dg.sensor(
        name="arrivals",
        job_name=REFRESH_JOB,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for one refresh over all days touched by batches that landed since the last good refresh, "
        "if what was decided about extractors isn't learnt from yet, or the schema was upgraded.",
    )
    def arrivals(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]
    ) -> dg.RunRequest | dg.SkipReason:
        with database.connect(autocommit=True) as connection:
            if refresh_under_way(context.instance, connection):
                return dg.SkipReason("A refresh is under way; what has landed meanwhile is taken up after it.")
            refreshed_to = position(context.instance)
            landed = arrivals_since(connection, refreshed_to)
            decided = decided_since_learning(connection)
        if not (landed.batches or decided or is_upgraded_since(context.instance)):
            return dg.SkipReason("Nothing has landed since the last refresh.")
        plan = plan_refresh(landed, clock.now().date())
        failures = _failures_since(context.instance, refreshed_to)
        wait = pause_after(failures, clock)
        return dg.SkipReason(wait) if wait else _request(landed, plan, len(failures))

    return arrivals


def _request(landed: Arrivals, plan: Refresh, failures: int) -> dg.RunRequest:
    # A run key blocks its repetition for ever, also after a failure: so it names horizon, schema and the attempt.
    return dg.RunRequest(
        run_key=f"arrivals-{plan.horizon}-{plan.tags[SCHEMA_TAG]}-{failures}",
        tags=plan.tags | {"tidemark/batches": str(landed.batches), "tidemark/records": str(landed.accepted)},
    )


def _failures_since(instance: dg.DagsterInstance, horizon: int) -> list[RunRecord]:
    failed = instance.get_run_records(
        RunsFilter(job_name=REFRESH_JOB, statuses=[DagsterRunStatus.FAILURE]), limit=_FAILURES_BEFORE_HELP
    )
    return [record for record in failed if int(record.dagster_run.tags.get(HORIZON_TAG, 0)) > horizon]
