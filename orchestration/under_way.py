"""Whether marts are being built, so that no two runs overlap: one's checks would answer for the other's tables.

A run in a process of the command line holds an advisory lock while it runs. A kill -9 leaves its run "started" for
ever but frees the lock, which tells the dead from the living. Runs of the daemon are watched by the daemon itself;
where none is served, none of them lives.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from orchestration.jobs import BUILDS_MARTS
from orchestration.supervisor import is_served
from storage.database import Connection, Database
from storage.errors import TidemarkError
from storage.locks import AdvisoryLock

IN_PROCESS_TAG = "tidemark/in_process"
_POLL_SECONDS = 1.0
_PATIENCE_SECONDS = 900.0
UNDER_WAY = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def refresh_under_way(instance: dg.DagsterInstance, connection: Connection) -> bool:
    """Whether a run that builds marts is under way or queued; runs whose process was killed are written off.

    Args:
        instance: where runs are recorded.
        connection: in autocommit mode; not the one that holds the lock.
    """
    runs = _started(instance)
    in_process = [run for run in runs if IN_PROCESS_TAG in run.tags]
    if in_process and _lock(connection):
        _bury(instance, in_process)
        connection.execute("select pg_advisory_unlock(%s)", (AdvisoryLock.REFRESH.value,))
        in_process = []
    return bool(in_process) or any(IN_PROCESS_TAG not in run.tags for run in runs)


@contextmanager
def only_refresh(
    instance: dg.DagsterInstance, database: Database, sleep: Callable[[float], None] = time.sleep
) -> Iterator[None]:
    """Wait for other runs that build marts to end, then be the only one of a command line until the block ends.

    Raises:
        TidemarkError: another one did not end in 15 minutes.
    """
    waited = 0.0
    with database.connect(autocommit=True) as connection:
        while not (_lock(connection) and not (_of_the_daemon(instance) and is_served(database))):
            if waited >= _PATIENCE_SECONDS:
                raise TidemarkError("another refresh is under way and does not end; Dagster's page shows its run")
            connection.execute("select pg_advisory_unlock_all()")
            sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        # With the lock in hand and no daemon at work, whatever still claims to run is dead.
        _bury(instance, _started(instance))
        yield


def _lock(connection: Connection) -> bool:
    return connection.execute("select pg_try_advisory_lock(%s)", (AdvisoryLock.REFRESH.value,)).fetchone() == (True,)


def _started(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    return list(instance.get_runs(RunsFilter(tags=BUILDS_MARTS, statuses=UNDER_WAY)))


def _of_the_daemon(instance: dg.DagsterInstance) -> bool:
    return any(IN_PROCESS_TAG not in run.tags for run in _started(instance))


def _bury(instance: dg.DagsterInstance, runs: list[dg.DagsterRun]) -> None:
    for run in runs:
        instance.report_run_failed(run, "The process of this run ended without a word.")
