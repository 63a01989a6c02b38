"""The assets of the landing: a window is counted, judged by Great Expectations and recounted against its receipts."""

import json
from datetime import UTC, datetime

import dagster as dg
import pandas as pd
import pytest

from assets.evaluations.arrivals import arrivals_since
from assets.evaluations.assets import landing_assets
from assets.evaluations.landing import land
from assets.evaluations.suite import RULES, validate
from assets.evaluations.verdicts import Line
from storage.database import Connection, Database

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAYS = dg.DailyPartitionsDefinition("2026-01-01")


def _land(connection: Connection, tenant: str, *days: str, drift: float | None = 0.1) -> None:
    records = [
        {
            "template": "invoice",
            "extractor_vendor": "v",
            "extractor_model": "m",
            "drift_score": drift,
            "reliability_score": 0.9,
            "created_at": f"{day}T0{hour}:00:00Z",
        }
        for day in days
        for hour in range(3)
    ]
    lines = [Line(number, json.dumps(item).encode()) for number, item in enumerate(records)]
    land(connection, tenant, "evaluations", lines, door="test", now=NOW)


def _materialize(database: Database, start: str, end: str) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        landing_assets(DAYS),
        resources={"database": database},
        tags={"dagster/asset_partition_range_start": start, "dagster/asset_partition_range_end": end},
    )


def test_one_run_over_a_range_materializes_each_of_its_days_and_passes_every_check(
    database: Database, connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, "2026-05-01", "2026-05-03")
    result = _materialize(database, "2026-05-01", "2026-05-04")

    events = result.asset_materializations_for_node("evaluations")
    assert [event.partition for event in events] == ["2026-05-01", "2026-05-02", "2026-05-03", "2026-05-04"]
    assert events[0].metadata["dagster/partition_row_count"].value == 6
    assert events[0].metadata["last_day"].value == "2026-05-03"
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks == dict.fromkeys([rule.name for rule in RULES] + ["receipts_match_rows"], True)


def test_a_window_without_evaluations_is_materialized_too(database: Database, tenant: str) -> None:
    result = _materialize(database, "2026-05-01", "2026-05-02")
    assert result.success
    (first, _) = result.asset_materializations_for_node("evaluations")
    assert first.metadata["dagster/partition_row_count"].value == 0


def test_a_row_that_vanishes_after_its_receipt_is_noticed(
    database: Database, connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, "2026-05-01")
    connection.execute("delete from raw.evaluations where created_at = '2026-05-01 01:00:00+00'")
    checks = {c.check_name: c for c in _materialize(database, "2026-05-01", "2026-05-01").get_asset_check_evaluations()}
    assert not checks["receipts_match_rows"].passed
    assert checks["receipts_match_rows"].metadata["accepted"].value == 3
    assert checks["receipts_match_rows"].metadata["landed"].value == 2


def test_a_batch_of_which_retention_dropped_a_month_is_no_longer_recounted(
    database: Database, connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, "2026-01-31", "2026-02-01")
    _land(connection, tenant, "2026-02-01", drift=0.2)
    connection.execute("delete from raw.evaluations where created_at < '2026-02-01'")
    connection.execute("insert into raw.dropped_months values ('2026-01-01', 3)")
    checks = {c.check_name: c for c in _materialize(database, "2026-01-31", "2026-02-01").get_asset_check_evaluations()}
    assert checks["receipts_match_rows"].passed
    assert checks["receipts_match_rows"].metadata["receipts"].value == 1


def test_a_pipeline_that_stops_sending_drift_scores_fails_a_check_and_not_the_run(
    database: Database, connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, "2026-05-01", drift=None)
    result = _materialize(database, "2026-05-01", "2026-05-01")
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert result.success
    assert [check.check_name for check in failed] == ["evaluations_carry_a_drift_score"]
    assert failed[0].metadata["unexpected_rows"].value == 3
    assert str(failed[0].description).startswith(f"3 of 3 evaluations, such as {tenant}/")


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("record_id", "r-1", "records_are_unique"),
        ("drift_score", 1.5, "drift_score_is_a_fraction"),
        ("reliability_score", -0.5, "reliability_score_is_a_fraction"),
        ("decision", "maybe", "decisions_are_known"),
    ],
)
def test_each_expectation_can_fail(column: str, value: object, rule: str) -> None:
    frame = pd.DataFrame(
        {
            "tenant_id": "acme",
            "record_id": [f"r-{number}" for number in range(1, 11)],
            "decision": "accept",
            "drift_score": 0.1,
            "reliability_score": 0.9,
        }
    )
    frame.loc[9, column] = value
    (outcome,) = (outcome for outcome in validate(frame) if not outcome.passed)
    assert outcome.rule.name == rule
    named = f"acme/{frame.loc[9, 'record_id']}"
    assert outcome.examples[-1] == (named if column == "record_id" else f"{named} ({value})")


def test_a_batch_that_commits_late_is_not_skipped(database: Database, connection: Connection, tenant: str) -> None:
    with database.connect() as slow:
        # Takes its transaction number now and commits after a batch with a higher one.
        slow.execute("select pg_current_xact_id()")
        _land(connection, tenant, "2026-05-02")
        first = arrivals_since(connection, 0)
        slow.execute(
            """insert into raw.ingest_batches
                   (tenant_id, kind, door, accepted, duplicates, conflicts, rejected, touched_days)
               values ('acme', 'evaluations', 'test', 1, 0, 0, 0, '{2026-04-01}')"""
        )
    second = arrivals_since(connection, first.horizon)
    assert first.batches == 0, "nothing may be followed past a transaction that is still open"
    assert [day.isoformat() for day in second.days] == ["2026-04-01", "2026-05-02"]
    assert arrivals_since(connection, second.horizon).batches == 0


def test_a_horizon_that_a_restored_server_has_not_reached_yet_hides_nothing(
    connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, "2026-05-02")
    assert arrivals_since(connection, 10**15).batches == 1
