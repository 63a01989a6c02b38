"""Retention: what goes is in the warehouse whole, and nobody who reads marts notices that it went."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from typing import Any

import psycopg
import pytest
from mart_records import empty_marts, evaluation
from mart_records import push as land_batch

from assets.warehouse.build import run_dbt
from assets.warehouse.reconciliation import reconcile
from assets.warehouse.retention import Retained, plan_retention, retain
from storage.database import Connection, Database
from storage.settings import PROJECT_ROOT, Settings
from storage.tenants import create_tenant

Content = dict[str, list[str]]
TENANT = "acme"
TODAY = date(2026, 6, 1)
DAYS = 90  # keeps from 2026-03-03 on, so from March
# It shows what waits for review now; what retention dropped waits for nothing any more.
ABOUT_EVALUATIONS = "review_queue"


def landed_and_built(database: Database) -> None:
    """A batch of January, one over February and May, feedback on both; all in the warehouse."""
    january = [_record(evaluation, f"j{n}", f"2026-01-{n + 10}", features={"x": n}) for n in range(5)]
    spanning = [_record(evaluation, f"s{n}", f"2026-0{2 + 3 * (n % 2)}-15", batch_key="b") for n in range(4)]
    judged = [_feedback("j0", True, 1), _feedback("j1", True, 1), _feedback("s1", False, 1)]
    with database.connect(autocommit=True) as connection:
        create_tenant(connection, TENANT)
        for kind, records in (("evaluations", january), ("evaluations", spanning), ("feedback", judged)):
            assert not land_batch(connection, TENANT, kind, records).problems
    run_dbt(["run"], database)


pytestmark = pytest.mark.begins(after=(empty_marts, landed_and_built))


@pytest.fixture
def tenant() -> str:
    """Whose records they are."""
    return TENANT


def _record(an_evaluation: Any, record_id: str, day: str, **fields: Any) -> dict[str, Any]:
    return dict(an_evaluation(record_id=record_id, created_at=f"{day}T08:00:00Z", **fields))


def _feedback(record_id: str, success: bool, day: int) -> dict[str, Any]:
    return {"record_id": record_id, "success": success, "created_at": f"2026-05-{20 + day}T00:00:00Z"}


@pytest.fixture
def all_checksums(checksums: Callable[[], Content]) -> Callable[[], Content]:
    return lambda: {mart: rows for mart, rows in checksums().items() if mart != ABOUT_EVALUATIONS}


def _dropped(done: Retained) -> dict[str, int | None]:
    return {f"{month.month:%Y-%m}": month.evaluations for month in done.months}


def _count(connection: Connection, query: str) -> int:
    [[count]] = connection.execute(query.encode()).fetchall()
    return int(count)


def test_marts_are_the_same_without_the_months_that_went_also_made_anew(
    database: Database, connection: Connection, all_checksums: Callable[[], Content]
) -> None:
    before = all_checksums()
    assert [month.month for month in plan_retention(connection, DAYS, TODAY).months] == [
        date(2026, 1, 1),
        date(2026, 2, 1),
    ]
    assert all_checksums() == before
    done = retain(connection, DAYS, TODAY)
    assert (_dropped(done), done.evaluations) == ({"2026-01": 5, "2026-02": 2}, 7)
    assert _count(connection, "select count(*) from raw.evaluations") == 2
    assert all_checksums() == before
    run_dbt(["run"], database)
    assert all_checksums() == before
    run_dbt(["run", "--full-refresh"], database)
    assert all_checksums() == before
    assert reconcile(connection).holds
    assert retain(connection, DAYS, TODAY).months == ()


def test_what_comes_late_for_a_dropped_month_counts_once_and_goes_in_its_turn(
    database: Database,
    connection: Connection,
    tenant: str,
    push: Any,
    an_evaluation: Any,
    rows: Any,
    all_checksums: Callable[[], Content],
) -> None:
    retain(connection, DAYS, TODAY)
    push(tenant, "evaluations", [_record(an_evaluation, "j0", "2026-01-10", features={"x": 0})])
    assert _count(connection, "select count(*) from raw.evaluations") == 2, "landed again, it is a duplicate"
    push(tenant, "evaluations", [_record(an_evaluation, "late", "2026-01-10", drift_score=0.3)])
    push(tenant, "feedback", [_feedback("j0", False, 2), _feedback("s1", True, 2), _feedback("late", True, 2)])
    run_dbt(["run"], database)
    [day] = [row for row in rows("marts.drift_history") if row["date"] == date(2026, 1, 10)]
    assert (day["evaluation_count"], day["drift_score"]) == (2, pytest.approx(0.2))
    [extractor] = rows("marts.extractor_performance")
    assert (extractor["evaluation_count"], extractor["success_count"], extractor["failure_count"]) == (10, 3, 1)
    assert reconcile(connection).holds
    before = all_checksums()

    assert _dropped(retain(connection, DAYS, TODAY)) == {"2026-01": 1}
    assert connection.execute("select month, evaluation_count from raw.dropped_months order by month").fetchall() == [
        (date(2026, 1, 1), 6),
        (date(2026, 2, 1), 2),
    ]
    run_dbt(["run", "--full-refresh"], database)
    assert all_checksums() == before
    found = reconcile(connection)
    assert found.holds, found.differences


def test_a_month_goes_only_when_everything_of_it_is_in_every_model_and_no_older_month_stays(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any
) -> None:
    push(tenant, "evaluations", [_record(an_evaluation, "unseen", "2026-01-20")])
    january, february = retain(connection, DAYS, TODAY).months
    assert january.refusal == "holds evaluations of 1 batches that are not in all models of the warehouse yet"
    assert (february.refusal, february.evaluations) == (None, None)
    for month, problem in {
        "2026-01-01": "holds evaluations of 1 batches",
        "2026-02-01": "is not the oldest month",
        "2026-05-01": "does not lie wholly before",
        "2026-01-15": "is no month that raw.evaluations holds",
    }.items():
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=problem):
            connection.execute("select raw.drop_evaluations_month(%s, '2026-03-03')", [month])
    # Folded, yet not in a model that reads raw itself: a run that built only a part.
    run_dbt(["run", "--select", "int_batches", "int_feedback_versions", "int_evaluation_deltas"], database)
    assert retain(connection, DAYS, TODAY).months[0].refusal == january.refusal
    run_dbt(["run"], database)
    assert retain(connection, DAYS, TODAY).evaluations == 8


def test_a_month_that_is_in_use_stays_for_another_day(database: Database, connection: Connection) -> None:
    with database.connect() as reader:
        reader.execute("select count(*) from raw.evaluations")
        january, february = retain(connection, DAYS, TODAY).months
    assert "is busy" in (january.refusal or "")
    assert february.evaluations is None
    assert retain(connection, DAYS, TODAY).evaluations == 7


def test_role_retention_can_do_nothing_but_call_its_functions(connection: Connection) -> None:
    forbidden = [
        "select * from raw.evaluations",
        "select * from raw.evaluations_202601",
        "delete from raw.feedback",
        "drop table raw.evaluations_202601",
        "alter table raw.evaluations detach partition raw.evaluations_202601",
        "select raw.ensure_evaluations_month('2001-01-01')",
        "select raw.refusal_to_drop('2026-01-01', '2026-03-01')",
        "insert into raw.dropped_months values ('2026-01-01', 1)",
        "select * from marts.drift_history",
        "select * from access.tenants",
        "create table raw.mine ()",
        "select marts.drift_history_as_of(now())",
    ]
    for statement in forbidden:
        with connection.transaction(force_rollback=True):
            connection.execute("set local role retention")
            try:
                connection.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                continue
            pytest.fail(f"retention may: {statement}")
    assert _count(connection, "select count(*) from raw.evaluations") == 9


def test_what_history_said_long_ago_is_forgotten_and_what_it_says_now_stays(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any
) -> None:
    for number in range(2):
        push(tenant, "evaluations", [_record(an_evaluation, f"again{number}", "2026-01-10")])
        run_dbt(["run"], database)
    versions = "select count(*) from marts.drift_history_versions where date = '2026-01-10'"
    assert _count(connection, versions) == 3
    connection.execute(
        "update marts.drift_history_versions set known_to = now() - interval '91 days' where known_to ="
        " (select min(known_to) from marts.drift_history_versions)"
    )
    connection.execute("update marts.drift_history_versions set known_from = now() - interval '900 days'")
    assert retain(connection, None, TODAY) == Retained(None, (), 1)
    assert _count(connection, versions) == 2


@pytest.fixture
def tidemark(settings: Settings) -> Callable[..., subprocess.CompletedProcess[str]]:
    def tidemark(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestration.cli", "retention", *arguments],
            cwd=PROJECT_ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return tidemark


def test_the_command_line_says_what_would_go_and_drops_nothing_that_does_not_reconcile(
    connection: Connection, tidemark: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert "kept for ever" in tidemark("run").stdout
    assert tidemark("run", TIDEMARK_EVALUATIONS_RETENTION_DAYS="7").returncode == 2
    days = {"TIDEMARK_EVALUATIONS_RETENTION_DAYS": "31"}
    planned = json.loads(tidemark("run", "--dry-run", "--json", **days).stdout)
    assert [row["outcome"] for row in planned["months"]][:2] == ["to be dropped", "to be dropped"]

    connection.execute("update marts.overview set total_evaluations = 8")
    refused = tidemark("run", **days)
    assert refused.returncode == 1
    assert "overview: 8 of tenant acme, where extractor_performance has 9" in refused.stderr
    assert _count(connection, "select count(*) from raw.evaluations") == 9

    connection.execute("update marts.overview set total_evaluations = 9")
    assert json.loads(tidemark("run", "--json", **days).stdout)["evaluations"] >= 7


def test_the_fact_made_anew_alone_adds_what_came_late_for_a_dropped_month_only_once(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any
) -> None:
    retain(connection, DAYS, TODAY)
    push(tenant, "evaluations", [_record(an_evaluation, "late", "2026-01-10")])
    run_dbt(["run", "--full-refresh"], database)
    for _ in range(2):
        run_dbt(["run", "--full-refresh", "--select", "int_evaluations_daily"], database)
        assert reconcile(connection).holds
    run_dbt(["run", "--full-refresh"], database)
    assert reconcile(connection).holds
