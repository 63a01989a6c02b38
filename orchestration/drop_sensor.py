"""The drop folder's sensor: looks every 15 seconds and asks for one run when something can land."""

import hashlib

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from assets.drop_folder.folder import DropFolder, LeftAlone
from assets.drop_folder.looking import Look, look
from orchestration.jobs import DROP_FOLDER_JOB
from orchestration.patience import pause_after
from orchestration.under_way import UNDER_WAY
from storage.clock import Clock
from storage.database import Database
from storage.errors import UsageError
from storage.settings import Settings

_MOST_FAILURES = 5
_NAMED = 20


def drop_folder_sensor() -> dg.SensorDefinition:
    """The sensor that requests the landing of dropped files."""

    @dg.sensor(
        name="drop_folder",
        job=DROP_FOLDER_JOB,
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for one run when files of the drop folder lie as they did at the last look.",
    )
    def drop_folder(
        context: dg.SensorEvaluationContext,
        database: dg.ResourceParam[Database],
        settings: dg.ResourceParam[Settings],
        clock: dg.ResourceParam[Clock],
    ) -> dg.SensorResult | dg.SkipReason:
        if context.instance.get_runs(RunsFilter(job_name=DROP_FOLDER_JOB.name, statuses=UNDER_WAY), limit=1):
            return dg.SkipReason("A run lands files; what was laid down meanwhile is taken up after it.")
        try:
            with database.connect(autocommit=True) as connection:
                seen = look(connection, DropFolder(settings.drop_folder_address), clock.now())
        except UsageError as error:
            return dg.SkipReason(f"Nothing to land: {error}")
        cursor = _digest(seen)
        if cursor != context.cursor:
            for item in seen.left_alone:
                context.log.warning(f"left alone: {item.path}: {item.reason}")
        wait = _wait(context.instance, clock)
        if not seen.ready or wait:
            return dg.SensorResult(skip_reason=wait if seen.ready else _nothing(seen), cursor=cursor)
        # No run key: it would block the same files for ever after a failure. Two runs at once do no harm, because each
        # file has one worker.
        return dg.SensorResult(
            run_requests=[dg.RunRequest(tags={"tidemark/files": str(len(seen.ready))})], cursor=cursor
        )

    return drop_folder


def _wait(instance: dg.DagsterInstance, clock: Clock) -> str | None:
    """Why not to try yet, if the newest runs failed, one after the other."""
    failed = []
    ended = RunsFilter(job_name=DROP_FOLDER_JOB.name, statuses=[DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE])
    for record in instance.get_run_records(ended, limit=_MOST_FAILURES):
        if record.dagster_run.status is DagsterRunStatus.SUCCESS:
            break
        failed.append(record)
    return pause_after(failed, clock)


def _nothing(seen: Look) -> str:
    parts = [f"Files that may still be being written: {seen.waiting}" if seen.waiting else "No new file"]
    if seen.left_alone:
        parts.append(f"left alone: {', '.join(item.path for item in seen.left_alone[:_NAMED])}")
    return "; ".join(parts) + "."


def _digest(seen: Look) -> str:
    """Changes when something else is left alone: it is told once, not at each look."""
    return hashlib.sha256(repr([_as_told(item) for item in seen.left_alone]).encode()).hexdigest()


def _as_told(item: LeftAlone) -> tuple[str, str]:
    return item.path, item.reason
