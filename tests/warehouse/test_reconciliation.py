"""Counts from door to mart: equal when nothing is wrong, and named by step and tenant when something is."""

from typing import Any

import pytest
from mart_records import empty_marts, evaluation
from mart_records import push as land_batch

from assets.warehouse.build import run_dbt
from assets.warehouse.reconciliation import Reconciliation, reconcile
from storage.database import Connection, Database
from storage.tenants import create_tenant

TENANT = "acme"
BEFORE_THE_LAST_FOLD = """
update raw.ingest_batches set xact_id = '10'
where batch_id = (select batch_id from raw.ingest_batches order by batch_id desc limit 1)
"""


def landed_and_built(database: Database) -> None:
    """Two tenants; feedback that is corrected, that came with its evaluation, that waits for one in vain."""
    other = evaluation(record_id="r0", template="other", created_at="2026-03-01T00:00:00Z")
    with database.connect(autocommit=True) as connection:

        def push(tenant: str, kind: str, *records: dict[str, Any]) -> None:
            assert not land_batch(connection, tenant, kind, records).problems

        for name in (TENANT, "globex"):
            create_tenant(connection, name)
        push(TENANT, "evaluations", *(evaluation(record_id=f"r{n}", success=n == 0) for n in range(3)))
        push(TENANT, "evaluations", evaluation(record_id="r0", success=True), evaluation(record_id="r3"))
        push("globex", "evaluations", other)
        push(TENANT, "feedback", {"record_id": "r3", "success": True, "created_at": "2026-05-02T00:00:00Z"})
        push(TENANT, "feedback", {"record_id": "r3", "success": False, "created_at": "2026-05-03T00:00:00Z"})
        push("globex", "feedback", {"record_id": "nowhere", "success": True, "created_at": "2026-05-02T00:00:00Z"})
    run_dbt(["run"], database)


pytestmark = pytest.mark.begins(after=(empty_marts, landed_and_built))


@pytest.fixture
def tenant() -> str:
    """The tenant with most of the records."""
    return TENANT


def _differing(found: Reconciliation) -> set[tuple[str, str, int]]:
    return {(item.step, item.tenant_id, item.count - item.expected) for item in found.differences}


def test_every_step_counts_the_same_also_while_records_land_that_no_build_has_seen(
    connection: Connection, tenant: str, push: Any, an_evaluation: Any
) -> None:
    found = reconcile(connection)
    assert found.holds, found.differences
    counted = {step.name: step.counts for step in found.steps}
    assert counted["overview"] == counted["keys"] == {tenant: 4, "globex": 1}
    assert counted["int_evaluations_daily: feedback"] == {tenant: 4, "globex": 0}
    assert counted["extractor_performance: success"] == {tenant: 1, "globex": 0}

    push(tenant, "evaluations", [an_evaluation(record_id="new")])
    push(tenant, "feedback", [{"record_id": "r0", "success": False, "created_at": "2026-05-04T00:00:00Z"}])
    push("globex", "feedback", [{"record_id": "r0", "success": False, "created_at": "2026-05-04T00:00:00Z"}])
    found = reconcile(connection)
    assert found.holds, found.differences


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (
            "delete from raw.evaluations where record_id = 'r1'",
            {("rows, dropped months included", "acme", -1), ("int_feedback_versions", "acme", 1)},
        ),
        (
            "update intermediate.int_evaluations_daily set evaluation_count = evaluation_count + 5"
            " where tenant_id = 'globex'",
            {("int_evaluations_daily", "globex", 5), ("evaluation_daily_stats", "globex", -5)},
        ),
        (
            "update marts.drift_history set evaluation_count = evaluation_count - 1 where tenant_id = 'acme'",
            {("drift_history", "acme", -1), ("extractor_performance", "acme", 1)},
        ),
        (
            "update intermediate.int_evaluations_daily set feedback_count = 0 where tenant_id = 'acme'",
            {("int_evaluations_daily: feedback", "acme", -4), ("extractor_performance: feedback", "acme", 4)},
        ),
        (
            # A correction that went missing: as many are counted, but not the same.
            "update intermediate.int_evaluations_daily set success_count = success_count + 1 where tenant_id = 'acme'",
            {("int_evaluations_daily: success", "acme", 1), ("extractor_performance: success", "acme", -1)},
        ),
    ],
)
def test_what_went_missing_on_the_way_is_named_by_step_and_tenant(
    connection: Connection, damage: str, named: set[tuple[str, str, int]]
) -> None:
    connection.execute(damage.encode())
    assert _differing(reconcile(connection)) == named


def test_a_batch_that_no_increment_will_find_again_is_lost_and_said_so(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any
) -> None:
    push(tenant, "evaluations", [an_evaluation(record_id="skipped")])
    connection.execute(BEFORE_THE_LAST_FOLD)
    push(tenant, "evaluations", [an_evaluation(record_id="found")])
    run_dbt(["run"], database)
    assert _differing(reconcile(connection)) == {("batches that no fold has", tenant, 1)}
    run_dbt(["run", "--full-refresh"], database)
    assert reconcile(connection).holds
