"""No two refreshes at once, and a killed one blocks nobody."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.instance.config import PoolGranularity

from orchestration.instance import instance_environment, open_instance
from orchestration.jobs import ALERT_MARTS_JOB, BUILDS_MARTS, nightly_job, refresh_job
from orchestration.refresh import REFRESH_JOB
from orchestration.supervisor import serving
from orchestration.under_way import IN_PROCESS_TAG, only_refresh, refresh_under_way
from storage.database import Connection, Database
from storage.errors import TidemarkError
from storage.settings import Settings


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@dg.job(name=REFRESH_JOB)
def refresh() -> None:
    """Stands for the real one."""


def _started(instance: dg.DagsterInstance, **tags: str) -> str:
    run = instance.create_run_for_job(refresh, tags=tags | BUILDS_MARTS, status=DagsterRunStatus.STARTED)
    return run.run_id


def _status(instance: dg.DagsterInstance, run_id: str) -> DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def _gives_up(_seconds: float) -> None:
    raise TidemarkError("waited")


def test_while_one_command_line_refreshes_another_waits_and_the_sensor_skips(
    instance: dg.DagsterInstance, database: Database, connection: Connection
) -> None:
    with only_refresh(instance, database):
        _started(instance, **{IN_PROCESS_TAG: "true"})
        assert refresh_under_way(instance, connection)
        with pytest.raises(TidemarkError, match="waited"), only_refresh(instance, database, sleep=_gives_up):
            pytest.fail("two at once")


def test_a_refresh_whose_process_was_killed_is_written_off_by_whoever_looks_next(
    instance: dg.DagsterInstance, database: Database, connection: Connection
) -> None:
    dead = _started(instance, **{IN_PROCESS_TAG: "true"})
    assert not refresh_under_way(instance, connection)
    assert _status(instance, dead) is DagsterRunStatus.FAILURE

    dead = _started(instance, **{IN_PROCESS_TAG: "true"})
    with only_refresh(instance, database):
        assert _status(instance, dead) is DagsterRunStatus.FAILURE


def test_a_run_of_the_daemon_is_waited_for_while_a_daemon_is_served_and_no_longer(
    instance: dg.DagsterInstance, database: Database, connection: Connection
) -> None:
    run_id = _started(instance)
    assert refresh_under_way(instance, connection)
    with serving(database) as alone:
        assert alone
        with pytest.raises(TidemarkError, match="waited"), only_refresh(instance, database, sleep=_gives_up):
            pytest.fail("two at once")
    assert _status(instance, run_id) is DagsterRunStatus.STARTED
    with only_refresh(instance, database):
        assert _status(instance, run_id) is DagsterRunStatus.FAILURE


def test_dagster_queues_runs_that_build_marts_one_behind_the_other(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in instance_environment(settings, database):
        monkeypatch.setenv(name, "restored afterwards")
    with open_instance(settings, database) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        pools = instance.get_concurrency_config().pool_config
    assert queue is not None
    assert (pools.pool_granularity, pools.default_pool_limit) == (PoolGranularity.RUN, 1)
    assert queue.tag_concurrency_limits == [{"key": key, "limit": 1} for key in BUILDS_MARTS]
    for job in (refresh_job([]), nightly_job(), ALERT_MARTS_JOB):
        assert BUILDS_MARTS.items() <= (job.tags or {}).items()
