"""Dagster's storage does not grow for ever, and after a pruning its page shows how things stand as before."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster import AssetCheckKey, AssetKey, RunsFilter

from orchestration.dagster_retention import Pruned, prune
from orchestration.instance import instance_environment, open_instance
from orchestration.partitions import DAYS
from orchestration.refresh import HORIZON_TAG, REFRESH_JOB, position
from storage.database import Connection, Database, connect
from storage.settings import Settings

FIRST_DAY = date(2026, 1, 1)
RUNS = 20
KEYS = [AssetKey("evaluations"), AssetKey("mart"), AssetKey("rarely")]
CHECK = AssetCheckKey(AssetKey("mart"), "adds_up")
ORPHANED_TAGS = "select count(*) from asset_event_tags where event_id not in (select id from event_logs)"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def evaluations() -> None:
    """Stands for the real one: the only asset with partitions."""


@dg.asset(deps=[evaluations], check_specs=[dg.AssetCheckSpec("adds_up", asset="mart")])
def mart() -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    yield dg.MaterializeResult(metadata={"rows": 7})
    yield dg.AssetCheckResult(passed=True, check_name="adds_up")


@dg.asset
def rarely() -> None:
    """Materialized once, by the very first run."""


DEFINITIONS = dg.Definitions(
    assets=[evaluations, mart, rarely],
    jobs=[
        dg.define_asset_job(REFRESH_JOB, selection=[evaluations, mart], partitions_def=DAYS),
        dg.define_asset_job("once", selection=[rarely]),
    ],
    executor=dg.in_process_executor,
)


@pytest.fixture
def instance(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    for name in instance_environment(settings, database):
        monkeypatch.setenv(name, "restored afterwards")
    with open_instance(settings, database) as instance:
        # One storage serves a test process: another test's sensors may have left events without a run.
        instance.wipe()
        yield instance


@pytest.fixture
def events(database: Database) -> Iterator[Connection]:
    with connect(database.dagster, autocommit=True) as connection:
        yield connection


def _run(instance: dg.DagsterInstance, job: str, **arguments: object) -> str:
    result = DEFINITIONS.resolve_job_def(job).execute_in_process(
        instance=instance,
        run_config=QUIET,
        **arguments,  # type: ignore[arg-type]
    )
    assert result.success
    return result.run_id


def _refresh(instance: dg.DagsterInstance, number: int, horizon: int) -> str:
    day = (FIRST_DAY + timedelta(days=number)).isoformat()
    return _run(instance, REFRESH_JOB, partition_key=day, tags={HORIZON_TAG: str(horizon)})


def _status(instance: dg.DagsterInstance) -> dict[str, object]:
    """What the page shows: of each asset its newest materialization, of each partition and check its state."""
    days = [(FIRST_DAY + timedelta(days=number)).isoformat() for number in range(RUNS + 1)]
    newest = {
        key.to_user_string(): instance.get_latest_materialization_event(key) for key in [*KEYS, AssetKey("alerts")]
    }
    checks = instance.event_log_storage.get_asset_check_summary_records([CHECK])[CHECK]
    execution = checks.last_check_execution_record
    return {
        "newest": {
            key: (event.run_id, event.asset_materialization.metadata) if event and event.asset_materialization else None
            for key, event in newest.items()
        },
        "partitions": instance.get_status_by_partition(AssetKey("evaluations"), days, DAYS),
        "check": (execution.run_id, execution.status, execution.event is not None) if execution else None,
        "position": position(instance),
    }


def test_old_runs_go_with_their_events_and_the_page_shows_the_same(
    instance: dg.DagsterInstance, database: Database, events: Connection
) -> None:
    first = _run(instance, "once")
    runs = [_refresh(instance, number, 9000 if number == RUNS - 5 else number) for number in range(RUNS)]
    for number in range(3):
        instance.report_runless_asset_event(dg.AssetMaterialization("alerts", metadata={"firing": number}))
    before = _status(instance)
    assert before["position"] == 9000
    everything = events.execute("select count(*) from event_logs").fetchall()[0][0]

    end = datetime.now(UTC) + timedelta(seconds=1)
    pruned = prune(instance, database, end)

    assert set(instance.get_run_ids(RunsFilter())) == {first, runs[-5], runs[-1]}
    assert pruned == Pruned(runs=RUNS - 2, runs_kept=3, runless_events=2, check_results=RUNS - 1)
    assert _status(instance) == before
    left = events.execute("select count(*), count(distinct run_id) from event_logs").fetchall()[0]
    assert left[1] == 4, "three runs and the events without one"
    assert left[0] * 5 < everything
    assert events.execute(ORPHANED_TAGS).fetchall() == [(0,)]
    assert prune(instance, database, end).runs == 0


def test_nothing_younger_and_nothing_under_way_goes(instance: dg.DagsterInstance, database: Database) -> None:
    kept = [_run(instance, REFRESH_JOB, partition_key=FIRST_DAY.isoformat()) for _ in range(3)]
    under_way = instance.create_run_for_job(
        DEFINITIONS.resolve_job_def(REFRESH_JOB), status=dg.DagsterRunStatus.STARTED
    ).run_id
    assert prune(instance, database, datetime.now(UTC) - timedelta(hours=1)).runs == 0
    assert set(instance.get_run_ids()) == {*kept, under_way}
    prune(instance, database, datetime.now(UTC) + timedelta(seconds=1))
    assert set(instance.get_run_ids()) == {kept[-1], under_way}
    instance.delete_run(under_way)


def test_the_instance_forgets_ticks_itself(instance: dg.DagsterInstance) -> None:
    from dagster._core.definitions.run_request import InstigatorType

    kept = instance.get_tick_retention_settings(InstigatorType.SENSOR)
    assert all(0 < days <= 30 for days in kept.values())
