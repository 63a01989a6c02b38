"""The refresh: no day is lost, whatever fails, and nothing runs that nobody needs."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from assets.evaluations.arrivals import Arrivals
from assets.evaluations.landing import land
from assets.evaluations.verdicts import Line
from assets.selection.decided import learnt_from, read_decided
from assets.selection.policies import set_pooling
from orchestration.arrivals_sensor import arrivals_sensor
from orchestration.refresh import HORIZON_TAG, REFRESH_JOB, SCHEMA_TAG, plan_refresh, position
from storage.clock import Clock
from storage.database import Connection, Database

NOW = datetime.now(UTC)
DAYS = dg.DailyPartitionsDefinition("2000-01-01", end_offset=1)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _land(connection: Connection, tenant: str, day: str, number: int = 1) -> None:
    record = {
        "record_id": f"{day}-{number}",
        "template": "invoice",
        "extractor_vendor": "v",
        "extractor_model": "m",
        "drift_score": 0.1,
        "created_at": f"{day}T08:00:00Z",
    }
    land(connection, tenant, "evaluations", [Line(1, json.dumps(record).encode())], door="test", now=NOW)


class _House:
    """A refresh job that succeeds or fails as told, and the real sensor over it."""

    def __init__(self, instance: dg.DagsterInstance, database: Database) -> None:
        self.instance = instance
        self.database = database
        self.fails = False
        self.now = NOW

        @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
        def evaluations() -> None:
            if self.fails:
                raise RuntimeError("planted")

        self.job = dg.define_asset_job(REFRESH_JOB, selection="*", partitions_def=DAYS)
        self.sensor = arrivals_sensor()
        self.definitions = dg.Definitions(assets=[evaluations], jobs=[self.job], sensors=[self.sensor])

    def tick(self) -> dg.RunRequest | None:
        with dg.build_sensor_context(instance=self.instance, definitions=self.definitions) as context:
            asked = self.sensor(context, database=self.database, clock=Clock(lambda: self.now))
        assert asked is None or isinstance(asked, dg.RunRequest | dg.SkipReason)
        return asked if isinstance(asked, dg.RunRequest) else None

    def run(self, asked: dg.RunRequest) -> bool:
        job = self.definitions.resolve_job_def(REFRESH_JOB)
        return job.execute_in_process(instance=self.instance, tags=asked.tags, raise_on_error=False).success


@pytest.fixture
def house(instance: dg.DagsterInstance, database: Database) -> _House:
    return _House(instance, database)


def _range(asked: dg.RunRequest | None) -> tuple[str, str] | None:
    if asked is None:
        return None
    return asked.tags["dagster/asset_partition_range_start"], asked.tags["dagster/asset_partition_range_end"]


def test_one_tick_asks_for_one_run_over_all_touched_days_late_ones_included(
    house: _House, connection: Connection, tenant: str
) -> None:
    assert house.tick() is None
    _land(connection, tenant, "2026-05-10")
    _land(connection, tenant, "2026-02-01")
    asked = house.tick()
    assert _range(asked) == ("2026-02-01", "2026-05-10")
    assert asked is not None
    assert house.run(asked)
    assert house.tick() is None


def test_feedback_that_comes_late_restates_the_day_of_its_evaluation(
    house: _House, connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, "2026-02-01")
    asked = house.tick()
    assert asked is not None
    house.run(asked)
    line = Line(1, b'{"record_id": "2026-02-01-1", "success": false}')
    land(connection, tenant, "feedback", [line], door="test", now=NOW)
    assert _range(house.tick()) == ("2026-02-01", "2026-02-01")


def test_a_failed_run_leaves_its_days_to_be_asked_for_again_after_a_pause(
    house: _House, connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, "2026-02-01")
    first = house.tick()
    assert first is not None
    house.fails = True
    assert not house.run(first)
    assert position(house.instance) == 0
    assert house.tick() is None, "a run that has just failed is not repeated at once"

    house.now, house.fails = datetime.now(UTC) + timedelta(minutes=2), False
    _land(connection, tenant, "2026-03-01")
    second = house.tick()
    assert _range(second) == ("2026-02-01", "2026-03-01")
    assert second is not None
    assert second.run_key != first.run_key
    assert house.run(second)
    assert position(house.instance) == int(second.tags[HORIZON_TAG])
    assert house.tick() is None


def test_a_batch_that_only_repeats_what_landed_asks_for_nothing(
    house: _House, connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, "2026-02-01")
    asked = house.tick()
    assert asked is not None
    house.run(asked)
    _land(connection, tenant, "2026-02-01")
    assert house.tick() is None


def test_what_is_decided_about_extractors_asks_for_a_run_until_it_is_learnt_from(
    house: _House, connection: Connection, tenant: str
) -> None:
    assert house.tick() is None
    set_pooling(connection, tenant, pools=True)
    asked = house.tick()
    assert asked is not None
    assert house.run(asked)
    assert house.tick() is not None, "this house's job has learnt nothing"
    learnt_from(connection, read_decided(connection))
    assert house.tick() is None
    set_pooling(connection, tenant, pools=False)
    assert house.tick() is not None
    set_pooling(connection, tenant, pools=True)
    assert house.tick() is None, "done and undone"


def test_an_upgrade_of_the_schema_asks_for_one_run_although_nothing_has_landed(
    house: _House, connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, "2026-02-01")
    asked = house.tick()
    assert asked is not None
    before = asked._replace(tags={name: tag for name, tag in asked.tags.items() if name != SCHEMA_TAG})
    assert house.run(before), "by the version before"
    again = house.tick()
    assert again is not None
    assert again.tags[SCHEMA_TAG] in str(again.run_key).split("-"), "an earlier version's key doesn't block it"
    assert house.run(again)
    assert house.tick() is None


def test_a_record_ahead_of_the_clock_at_midnight_does_not_ask_for_a_day_that_has_no_partition() -> None:
    today = date(2026, 5, 1)
    plan = plan_refresh(Arrivals(horizon=7, batches=1, accepted=1, days=(date(2026, 5, 2),)), today)
    assert (plan.first_day, plan.last_day) == (today, today)
