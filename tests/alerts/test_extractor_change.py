"""An extractor that gets worse is told once, however often it is learnt, and its recovery ends the alert."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import dagster as dg
import pytest
from alert_rows import events, statuses
from mart_records import evaluation, push

from assets.selection.assets import definitions, learn_of_extractors
from assets.selection.published import read_recommendation
from assets.warehouse.build import run_dbt
from sensors.alerts.administration import list_alerts
from sensors.alerts.scan import scan
from storage.database import Connection, Database

TYPE = "extractor_change"
FIRST = datetime(2026, 3, 1, 8, tzinfo=UTC)
FEEDBACKS_A_DAY = 20


def _days(connection: Connection, tenant: str, first: int, count: int, failures: dict[str, int]) -> datetime:
    """So many days of feedback, of which so many of each model's say failure; returns the next midnight but one."""
    records = [
        evaluation(
            record_id=f"{model}-{day}-{number}",
            extractor_model=model,
            created_at=(FIRST + timedelta(days=day, minutes=number)).isoformat(),
            success=number >= failed,
        )
        for day in range(first, first + count)
        for model, failed in failures.items()
        for number in range(FEEDBACKS_A_DAY)
    ]
    assert push(connection, tenant, "evaluations", records).accepted == len(records)
    return FIRST + timedelta(days=first + count)


def _learn(database: Database) -> None:
    run_dbt(["run", "--select", "+extractor_performance_daily"], database)
    assert dg.materialize([learn_of_extractors], resources={"database": database}).success


def test_a_drop_is_told_once_with_its_evidence_sets_off_the_alarm_and_a_recovery_ends_it(
    database: Database, connection: Connection, tenant: str
) -> None:
    _days(connection, tenant, 0, 30, {"reader-1": 2, "reader-2": 2})
    now = _days(connection, tenant, 30, 2, {"reader-1": 2, "reader-2": 11})
    run_dbt(["run", "--select", "+extractor_performance_daily"], database)
    for _ in range(3):
        assert dg.materialize(definitions(), resources={"database": database}).success
        for _ in range(2):
            scan(connection, now)
    [told] = cast("list[dict[str, Any]]", events(connection, TYPE))
    assert told["subject"] == {"template": "invoice", "extractor_vendor": "acme-ai", "extractor_model": "reader-2"}
    assert (told["metric"]["name"], told["metric"]["threshold"]) == ("objective_drop", 0.02)
    assert told["metric"]["value"] == pytest.approx(0.45, abs=0.05)
    assert told["metric"]["window_start"] == "2026-03-31T00:00:00Z"
    found = read_recommendation(connection, tenant, "invoice")
    assert found.decision == "alarm"
    assert "acme-ai/reader-2 went from 90.0 %" in found.reason
    run_dbt(["run", "--select", "+extractor_changes"], database)
    [alert] = list_alerts(connection, tenant, event_type=TYPE)
    evidence = cast("dict[str, Any]", alert["evidence"])
    row = connection.execute(evidence["sql"]).fetchone()
    assert row is not None
    assert (row[0], evidence["baseline"]["change"]["changed_on"]) == (alert["value"], "2026-03-31")

    # Another week below tells nobody again; a level that has lasted a week can be told from the one after it.
    now = _days(connection, tenant, 32, 8, {"reader-1": 2, "reader-2": 11})
    _learn(database)
    scan(connection, now)
    assert statuses(connection, TYPE) == ["firing"]
    now = _days(connection, tenant, 40, 6, {"reader-1": 2, "reader-2": 2})
    _learn(database)
    scan(connection, now)
    assert statuses(connection, TYPE) == ["firing", "resolved"]


def test_a_drop_that_late_feedback_explains_is_over(database: Database, connection: Connection, tenant: str) -> None:
    now = _days(connection, tenant, 0, 34, {"reader-1": 2, "reader-2": 2})
    wrong = [{"record_id": f"reader-2-{day}-{n}", "success": False} for day in range(30, 34) for n in range(2, 13)]
    push(connection, tenant, "feedback", [one | {"created_at": "2026-04-05T00:00:00Z"} for one in wrong])
    _learn(database)
    scan(connection, now)
    assert statuses(connection, TYPE) == ["firing"]
    right = [one | {"success": True, "created_at": "2026-04-06T00:00:00Z"} for one in wrong]
    push(connection, tenant, "feedback", right)
    _learn(database)
    scan(connection, now)
    assert statuses(connection, TYPE) == ["firing", "retracted"]
    assert connection.execute("select count(*) from ml.extractor_changes").fetchone() == (0,)
