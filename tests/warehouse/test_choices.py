"""How choices of extractors turn out, day by day: what late and corrected feedback restates, what is quarantined."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from mart_records import empty_marts, rows_of
from selection_rows import plant_shares

from assets.warehouse.build import run_dbt
from assets.warehouse.checks import choices_can_be_used
from storage.clock import Clock
from storage.database import Connection, Database

_MODELS = ["run", "--select", "+extractor_performance_daily", "+selection_quarantine"]
_WRITTEN = "select date, extractor_model, xmin::text from marts.extractor_performance_daily"
SNAPSHOT = "0190c3a0-0000-7000-8000-000000000001"


_MID_MAY = Clock(lambda: datetime(2026, 5, 15, tzinfo=UTC))


def _said(record_id: str, day: int, **said: Any) -> dict[str, Any]:
    return {"record_id": record_id, "created_at": f"2026-05-{day:02}T12:00:00Z"} | said


@pytest.mark.begins(after=empty_marts)
def test_late_and_corrected_feedback_restates_its_day_alone_and_what_cannot_be_used_is_told(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any
) -> None:
    shares = {("acme-ai", "reader-1"): 0.5, ("acme-ai", "reader-2"): 0.5}
    plant_shares(connection, SNAPSHOT, tenant, "invoice", shares)
    push(
        tenant,
        "evaluations",
        [
            an_evaluation(record_id="first", propensity=0.25, cost_usd=0.1, latency_ms=0.5),
            an_evaluation(record_id="second", propensity=0.5, snapshot_id=SNAPSHOT, cost_usd=0.2),
            an_evaluation(record_id="early", propensity=0.5, assigned_by="share"),
            an_evaluation(record_id="odd", propensity=0.4, snapshot_id=SNAPSHOT),
            an_evaluation(record_id="strange", propensity=0.5, snapshot_id=SNAPSHOT, extractor_model="reader-3"),
            an_evaluation(record_id="tiny", propensity=1e-10, extractor_model="reader-4"),
            an_evaluation(record_id="other day", created_at="2026-05-02T08:00:00Z", extractor_model="reader-2"),
        ],
    )
    said = [_said("first", 3, fields_correct=3, fields_total=4), _said("second", 3, fields_correct=4, fields_total=4)]
    push(
        tenant, "feedback", [*said, *(_said(name, 3, success=True) for name in ("odd", "strange", "tiny", "other day"))]
    )
    push(tenant, "feedback", [{"record_id": "early", "success": False, "created_at": "2026-05-01T07:54:00Z"}])
    run_dbt(_MODELS, database)

    day = _row(connection, "reader-1")
    assert (day["evaluation_count"], day["feedback_count"], day["success_count"], day["failure_count"]) == (4, 3, 2, 1)
    assert (day["cost_count"], day["cost_sum"], day["latency_count"], day["latency_sum_sq"]) == (2, 0.3, 1, 0.25)
    assert (day["document_count"], day["rate_sum"], day["rate_sum_sq"]) == (2, 1.75, 1.5625)
    assert (day["success_logged_count"], day["success_weight_sum"], day["success_reward_weight_sum"]) == (2, 6, 2)
    assert (day["fields_weight_max"], day["fields_reward_weight_sum"], day["fields_open_count"]) == (4, 5, 2)
    assert _quarantined(connection) == [
        ("reader-3", "extractor_not_in_snapshot", 1),
        ("reader-1", "feedback_before_decision", 1),
        ("reader-1", "propensity_at_odds", 1),
        ("reader-4", "propensity_too_small", 1),
    ]
    check = choices_can_be_used(database=database, clock=_MID_MAY)
    assert (check.passed, check.metadata["decisions_left_out"].value) == (False, 4)
    assert (
        "invoice of acme, acme-ai/reader-1: 1 left out (propensity_at_odds, field propensity). Send propensity and"
        in (check.description or "")
    )

    written = {(at, model): version for at, model, version in connection.execute(_WRITTEN)}
    # The weightiest document turns out to be judged as a whole, early feedback is followed by other; the rest repeats.
    push(tenant, "feedback", [*said, _said("first", 4, success=True), _said("early", 4, success=False)])
    run_dbt(_MODELS, database)
    day = _row(connection, "reader-1")
    assert (day["feedback_count"], day["success_count"], day["document_count"], day["rate_sum"]) == (4, 3, 1, 1)
    assert (day["success_weight_max"], day["success_weight_sum"], day["success_reward_weight_sum"]) == (4, 8, 6)
    assert (day["fields_weight_max"], day["fields_weight_sum"], day["early_feedback_count"]) == (2, 2, 0)
    assert _quarantined(connection) == [
        ("reader-3", "extractor_not_in_snapshot", 1),
        ("reader-1", "propensity_at_odds", 1),
        ("reader-4", "propensity_too_small", 1),
    ]
    now = {(at, model): version for at, model, version in connection.execute(_WRITTEN)}
    assert {key for key in now if now[key] != written[key]} == {(date(2026, 5, 1), "reader-1")}

    by_increments = [rows_of(connection, f"marts.{mart}") for mart in _MARTS]
    run_dbt([*_MODELS, "--full-refresh"], database)
    assert [rows_of(connection, f"marts.{mart}") for mart in _MARTS] == by_increments


_MARTS = ("extractor_performance_daily", "selection_quarantine")


def _row(connection: Connection, model: str) -> dict[str, Any]:
    [row] = [row for row in rows_of(connection, "marts.extractor_performance_daily") if row["extractor_model"] == model]
    return row


def _quarantined(connection: Connection) -> list[tuple[str, str, int]]:
    rows = rows_of(connection, "marts.selection_quarantine")
    return sorted(
        ((row["extractor_model"], row["reason"], row["decision_count"]) for row in rows), key=lambda row: row[1]
    )
