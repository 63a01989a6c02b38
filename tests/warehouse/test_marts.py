"""The marts' numbers: against an independent computation, and in the cases that an average hides."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mart_oracle import check_marts
from mart_records import TENANTS, declare_batches, empty_marts, publish_shares, push_all, some_records
from mart_records import push as land_batch

from assets.warehouse.build import run_dbt
from assets.warehouse.dbt_runner import DbtFailedError
from storage.database import Connection, Database
from storage.tenants import create_tenant

# For tests that look at how many evaluations are counted, and at nothing else.
_HISTORY = ("--select", "+drift_history")
_LAND_SLOWLY = """
with batch as (
    insert into raw.ingest_batches
        (tenant_id, kind, door, accepted, duplicates, conflicts, rejected, touched_days)
    select %(tenant)s, 'evaluations', 'test', 1, 0, 0, 0, array[created_at::date]
    from raw.evaluations where record_id = 'quick'
    returning batch_id
)
insert into raw.evaluations (evaluation_id, tenant_id, record_key, record_id, batch_id, template_id, template,
    extractor_vendor, extractor_model, drift_score, decision, created_at)
select uuidv7(), tenant_id, uuidv7(), 'slow', (select batch_id from batch), template_id, template, extractor_vendor,
    extractor_model, drift_score, decision, created_at
from raw.evaluations where record_id = 'quick'
"""


def test_every_mart_shows_what_an_independent_computation_finds_and_every_data_test_passes(
    database: Database, connection: Connection, rows: Any
) -> None:
    for tenant in TENANTS:
        create_tenant(connection, tenant)
    declare_batches(connection)
    publish_shares(connection)
    sent = some_records(seed=1, count=300)
    push_all(connection, sent[300:600])
    run_dbt(["run"], database)
    push_all(connection, sent)
    run_dbt(["build", "--exclude-resource-type", "unit_test"], database)
    check_marts(rows, sent)


def test_scores_that_do_not_vary_have_their_own_value_as_mean_and_no_spread(
    database: Database, tenant: str, push: Any, an_evaluation: Any, rows: Any
) -> None:
    awkward = 0.1 + 0.2  # 17 digits: a cast to numeric would round it out of its own minimum and maximum
    push(tenant, "evaluations", [an_evaluation(drift_score=awkward, score=n) for n in range(7)])
    run_dbt(["build", "--select", "+drift_history", "--exclude-resource-type", "unit_test"], database)
    [row] = rows("marts.drift_history")
    assert (row["drift_score"], row["drift_min"], row["drift_max"], row["drift_stddev"]) == (awkward,) * 3 + (0.0,)


def test_feedback_never_crosses_tenants(
    database: Database, connection: Connection, push: Any, an_evaluation: Any, rows: Any
) -> None:
    for name in TENANTS:
        create_tenant(connection, name)
    shared = "0190f2d4-0000-7000-8000-000000000001"
    for name in TENANTS:
        push(name, "evaluations", [an_evaluation(record_id="same", evaluation_id=shared)])
    push("globex", "feedback", [{"evaluation_id": shared, "success": False}])
    push("acme", "feedback", [{"record_id": "same", "success": True}])
    run_dbt(["run", "--select", "+extractor_performance"], database)
    counts = {
        row["tenant_id"]: (row["success_count"], row["failure_count"]) for row in rows("marts.extractor_performance")
    }
    assert counts == {"acme": (1, 0), "globex": (0, 1)}


def test_overview_has_a_row_for_a_tenant_without_data_and_counts_today_and_alerts(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any, rows: Any
) -> None:
    create_tenant(connection, "silent")
    today = datetime.now(UTC)
    connection.execute("select raw.ensure_evaluations_month(%s)", (today.date(),))
    land_now = [an_evaluation(record_id="t", created_at="2026-05-01T23:59:59.999999Z"), an_evaluation(record_id="u")]
    push(tenant, "evaluations", land_now)
    connection.execute("update raw.evaluations set created_at = %s where record_id = 'u'", (today,))
    alert = """
    insert into alerting.alerts (tenant_id, event_type, template, epoch, status, severity, metric, value, threshold,
        breach_count, window_start, window_end, started_at, resolved_at)
    values (%(tenant)s, 'drift_high', 'invoice', %(epoch)s, %(status)s, 'warning', 'drift_score', 0.5, 0.3, 1, %(at)s,
        %(at)s, %(at)s, %(resolved)s)
    """
    for epoch, status, age in ((1, "resolved", 400), (2, "resolved", 10), (3, "firing", 200)):
        at = today - timedelta(days=age)
        resolved = at + timedelta(seconds=90) if status == "resolved" else None
        connection.execute(alert, {"tenant": tenant, "epoch": epoch, "status": status, "at": at, "resolved": resolved})
    waiting = {"tenant": tenant, "epoch": 1, "status": "pending", "at": today, "resolved": None}
    connection.execute(alert.replace("drift_high", "reliability_low"), waiting)
    connection.execute(
        "update alerting.alerts set acked_at = started_at + interval '30 seconds', acked_by = 'ana' where epoch = 2"
    )
    # Amended once, then retracted; amended alone.
    connection.execute("update alerting.alerts set revision = 2, is_retracted = true where status = 'resolved'")
    connection.execute("update alerting.alerts set revision = 1 where status = 'firing'")
    hook = """
    insert into alerting.webhooks (tenant_id, url, sealed_url, format, breaker)
    values (%s, 'https://hooks.example.com/…', 'sealed-path', 'slack', 'open')
    """
    connection.execute(hook, (tenant,))
    run_dbt(["build", "--exclude-resource-type", "unit_test"], database)
    [health] = rows("marts.webhook_health")
    assert (health["endpoint"], health["format"], health["status"], health["breaker"]) == (
        "https://hooks.example.com/…",
        "slack",
        "active",
        "open",
    )
    overview = {row["tenant_id"]: row for row in rows("marts.overview")}
    assert overview["silent"]["total_evaluations"] == overview["silent"]["alert_count"] == 0
    # A midnight may have passed since.
    happened_today = overview[tenant]["today"] == today.date()
    assert (overview[tenant]["total_evaluations"], overview[tenant]["evaluations_today"]) == (2, happened_today)
    assert (overview[tenant]["alert_count"], overview[tenant]["firing_alert_count"]) == (3, 1)
    recent = {row["status"]: row for row in rows("marts.recent_alerts")}
    assert recent["resolved"]["seconds_to_resolve"] == 90
    assert recent.keys() == {"resolved", "firing", "pending"}
    assert len(rows("marts.recent_alerts")) == 3
    late = {status: (row["is_retracted"], row["is_amended"]) for status, row in recent.items()}
    assert late == {"resolved": (True, True), "firing": (False, True), "pending": (False, False)}
    connection.execute("update alerting.alerts set status = 'ok' where status = 'pending'")
    run_dbt(["run", "--select", "recent_alerts"], database)
    assert {row["status"] for row in rows("marts.recent_alerts")} == {"resolved", "firing"}
    assert (recent["resolved"]["seconds_to_acknowledge"], recent["firing"]["seconds_to_acknowledge"]) == (30, None)


@pytest.mark.begins(after=empty_marts)
def test_a_batch_that_commits_during_the_build_is_left_to_the_next_and_none_is_skipped(
    database: Database, connection: Connection, tenant: str, an_evaluation: Any, rows: Any
) -> None:
    def counted() -> list[int]:
        run_dbt(["build", "--exclude-resource-type", "unit_test", *_HISTORY], database)
        return [row["evaluation_count"] for row in rows("marts.drift_history")]

    with database.connect() as slow:
        slow.execute("select pg_current_xact_id()")
        assert land_batch(connection, tenant, "evaluations", [an_evaluation(record_id="quick")]).accepted == 1
        slow.execute(_LAND_SLOWLY, {"tenant": tenant})
        assert counted() == [1]
        assert land_batch(connection, tenant, "evaluations", [an_evaluation(record_id="next")]).accepted == 1
        assert counted() == [2]
    assert counted() == [3]


@pytest.mark.begins(after=empty_marts)
def test_batches_of_a_restored_backup_count_although_their_numbers_lie_in_the_future(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any, rows: Any
) -> None:
    def counted() -> list[int]:
        run_dbt(["run", *_HISTORY], database)
        return [row["evaluation_count"] for row in rows("marts.drift_history")]

    push(tenant, "evaluations", [an_evaluation(record_id="before")])
    connection.execute("update raw.ingest_batches set xact_id = '9000000000'")
    assert counted() == [1]
    # The new server's own numbers are small, and lie before the horizon that the old one left.
    connection.execute("update intermediate.int_batches set horizon = '9000000000'")
    push(tenant, "evaluations", [an_evaluation(record_id="after")])
    assert counted() == [2]
    push(tenant, "evaluations", [an_evaluation(record_id="later")])
    assert counted() == [3]


@pytest.mark.begins(after=empty_marts)
def test_a_batch_that_was_skipped_after_all_is_told_of_and_taken_in_by_a_full_refresh(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any, rows: Any
) -> None:
    push(tenant, "evaluations", [an_evaluation(record_id="folded")])
    run_dbt(["run", *_HISTORY], database)
    push(tenant, "evaluations", [an_evaluation(record_id="skipped")])
    # As after a restore, where the new server's numbers grew past the old horizon before the first build.
    connection.execute("update raw.ingest_batches set xact_id = '3'")
    with pytest.raises(DbtFailedError, match="no_batch_is_skipped"):
        run_dbt(["build", "--exclude-resource-type", "unit_test", *_HISTORY], database)
    run_dbt(["build", "--full-refresh", "--exclude-resource-type", "unit_test", *_HISTORY], database)
    assert [row["evaluation_count"] for row in rows("marts.drift_history")] == [2]


@pytest.mark.begins(after=empty_marts)
def test_a_batch_that_lands_before_a_restored_server_reaches_the_old_horizon_is_not_skipped(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any, rows: Any
) -> None:
    push(tenant, "evaluations", [an_evaluation()])
    run_dbt(["run", *_HISTORY], database)
    connection.execute(
        "update intermediate.int_batches set horizon = (pg_current_xact_id()::text::bigint + 200)::text::xid8"
    )
    run_dbt(["run", *_HISTORY], database)
    push(tenant, "evaluations", [an_evaluation(record_id="before")])
    for _ in range(300):
        connection.execute("select pg_current_xact_id()")
    run_dbt(["run", *_HISTORY], database)
    assert [row["evaluation_count"] for row in rows("marts.drift_history")] == [2]


@pytest.mark.begins(after=empty_marts)
def test_a_feature_with_a_name_that_no_index_takes_stops_no_build(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any
) -> None:
    noise = bytes(random.Random(1).choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=9000)).decode()  # noqa: S311
    push(tenant, "evaluations", [an_evaluation(features={noise: 1.5, "pages": 3})])
    run_dbt(["run"], database)
    assert connection.execute("select feature, mean from marts.feature_drift").fetchall() == [("pages", 3.0)]
