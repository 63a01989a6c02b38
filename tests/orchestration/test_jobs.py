"""The jobs on the real graph: one tick and one run restate every day that arrivals touched; a year is one run.

What Dagster's eager() silently leaves out: days that come late, everything below an asset with days that were never
materialized, everything below a view, and marts that join two paths from the same landing.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import dagster as dg
import pytest
from alert_rows import know_template
from mart_records import empty_marts
from selection_rows import arm, plant_recommendation

from assets.evaluations.contract import template_id
from assets.evaluations.landing import land
from assets.evaluations.manifests import declare_manifest
from assets.evaluations.verdicts import Line
from assets.selection.policies import Extractor, rule, set_pooling
from assets.selection.publishing import publish
from orchestration.alert_marts_sensor import alert_marts_sensor
from orchestration.arrivals_sensor import arrivals_sensor
from orchestration.definitions import build_definitions
from orchestration.jobs import ALERT_MARTS_JOB, RECONCILE_BATCHES_JOB
from orchestration.manifest_sensor import manifest_sensor
from orchestration.platform import Platform
from orchestration.refresh import NIGHTLY_JOB, REFRESH_JOB
from orchestration.refresh_in_process import refresh_in_process
from sensors.alerts.administration import acknowledge, list_alerts, resolve
from sensors.alerts.scan import scan
from sensors.alerts.sensors import alert_sensor
from sensors.webhooks.registry import create_webhook, delete_webhook, pause_webhook, resume_webhook
from storage.clock import Clock
from storage.database import Connection, Database
from storage.secrets import SecretBox
from storage.settings import Settings
from storage.tenants import create_tenant

NOW = datetime.now(UTC)
TODAY = NOW.date()
# A midnight in the middle of a test would end the day that it works with.
CLOCK = Clock(lambda: NOW)
LATE = TODAY - timedelta(days=40)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
EACH_BUILD = "every_batch_is_counted_int_evaluation_deltas_"
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
_TOTALS = """
select
    overview.total_evaluations,
    (select sum(count) from marts.evaluation_daily_stats)::bigint,
    (select sum(evaluation_count) from marts.extractor_comparison)::bigint,
    (select sum(evaluation_count) from marts.template_performance)::bigint,
    (select sum(evaluation_count) from marts.drift_trends)::bigint
from marts.overview
"""
_DAYS = "select date, sum(evaluation_count)::bigint, avg(drift_score) from marts.drift_history group by 1 order by 1"


class _House:
    """The whole of Tidemark's definitions over a fresh database, driven as Dagster's daemon would."""

    def __init__(self, instance: dg.DagsterInstance, database: Database, settings: Settings) -> None:
        self.instance = instance
        self.database = database
        self.definitions = build_definitions(settings=settings, database=database, clock=CLOCK)

    def tick(self) -> dg.RunRequest | dg.SkipReason:
        with dg.build_sensor_context(instance=self.instance, definitions=self.definitions) as context:
            asked = arrivals_sensor()(context, database=self.database, clock=CLOCK)
        assert isinstance(asked, dg.RunRequest | dg.SkipReason)
        return asked

    def run(self, job: str, tags: dict[str, str]) -> dg.ExecuteInProcessResult:
        result = self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, tags=tags, run_config=QUIET
        )
        assert result.success
        return result

    def refresh(self) -> tuple[str, str]:
        """One tick, one run; the range of days that it covered."""
        asked = self.tick()
        assert isinstance(asked, dg.RunRequest), asked
        self.run(REFRESH_JOB, dict(asked.tags))
        return asked.tags[RANGE[0]], asked.tags[RANGE[1]]


@pytest.fixture
def house(database: Database, settings: Settings) -> Iterator[_House]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield _House(instance, database, settings)


def _land(
    connection: Connection, tenant: str, day: date, numbers: range, drift: float, template: str = "invoice"
) -> None:
    records = [
        {
            "record_id": f"{day}-{number}",
            "template": template,
            "extractor_vendor": "v",
            "extractor_model": f"m{number % 2}",
            "drift_score": drift,
            "decision": "accept",
            "created_at": f"{day}T00:00:00Z",
        }
        for number in numbers
    ]
    lines = [Line(number, json.dumps(record).encode()) for number, record in enumerate(records, start=1)]
    assert not land(connection, tenant, "evaluations", lines, door="test", now=NOW).problems


def _feed_back(connection: Connection, tenant: str, record_id: str, success: bool) -> None:
    line = Line(1, json.dumps({"record_id": record_id, "success": success}).encode())
    land(connection, tenant, "feedback", [line], door="test", now=NOW)


def test_one_tick_and_one_run_restate_late_days_across_gaps_views_and_diamonds(
    house: _House, connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, TODAY, range(24), 0.1)
    assert house.refresh() == (TODAY.isoformat(), TODAY.isoformat())
    assert connection.execute(_TOTALS).fetchall() == [(24,) * 5]

    # Late, behind 39 days that no run ever materialized; a template and an extractor never seen; feedback on the past.
    _land(connection, tenant, LATE, range(20), 0.3)
    _land(connection, tenant, LATE, range(20, 24), 0.3, template="receipt")
    _land(connection, tenant, TODAY, range(24, 25), 0.35)
    _feed_back(connection, tenant, f"{TODAY}-0", success=False)
    assert house.refresh() == (LATE.isoformat(), TODAY.isoformat())

    assert connection.execute(_TOTALS).fetchall() == [(49,) * 5]
    assert connection.execute(_DAYS).fetchall() == [
        (LATE, 24, pytest.approx(0.3)),
        (TODAY, 25, pytest.approx((24 * 0.1 + 0.35) / 25)),
    ]
    [trend] = connection.execute(
        "select evaluation_count_7d from marts.drift_trends where date = %s", [TODAY]
    ).fetchall()
    assert trend == (25,), "the late days are older than the window"
    failures = connection.execute("select sum(failure_count)::bigint from marts.extractor_performance").fetchall()
    assert (
        failures
        == connection.execute("select count(*) from ml.extractor_posteriors where failure_count > 0").fetchall()
    )
    assert failures == [(1,)]
    assert isinstance(house.tick(), dg.SkipReason)
    set_pooling(connection, tenant, pools=True)
    house.refresh()
    assert isinstance(house.tick(), dg.SkipReason), "what was decided is learnt from"


@pytest.mark.begins(after=empty_marts)
def test_a_refresh_leaves_tests_of_whole_tables_to_the_night_and_the_night_leaves_out_nothing(
    house: _House, connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, TODAY, range(3), 0.1)
    asked = house.tick()
    assert isinstance(asked, dg.RunRequest)
    refreshed = house.run(REFRESH_JOB, dict(asked.tags))
    built = {event.asset_key for event in refreshed.get_asset_materialization_events()}
    checked = {evaluation.check_name for evaluation in refreshed.get_asset_check_evaluations()}
    assert {EACH_BUILD, "receipts_match_rows", "p_best_sums_to_one", "bounds_in_order"} <= checked
    assert not {name for name in checked if name.startswith(("unique_", "not_null_"))}

    day = TODAY.isoformat()
    night = house.run(NIGHTLY_JOB, {RANGE[0]: day, RANGE[1]: day})
    more = {event.asset_key for event in night.get_asset_materialization_events()} - built
    assert {key.to_user_string() for key in more} == {
        "reconciliation",
        "retention",
        "dagster_retention",
        "webhook_retention",
        "alert_log_retention",
        "audit_seal",
        "audit_retention",
    }
    checks = {evaluation.asset_check_key: evaluation.passed for evaluation in night.get_asset_check_evaluations()}
    assert all(checks.values())
    job = house.definitions.resolve_job_def(NIGHTLY_JOB)
    assert checks.keys() == job.asset_layer.asset_graph.asset_check_keys
    order = [event.step_key for event in night.get_step_success_events()]
    assert order.index("warehouse") < order.index("reconciliation") < order.index("retention")
    assert order.index("audit_seal") < order.index("audit_retention")


@pytest.mark.begins(after=empty_marts)
def test_a_year_of_days_is_one_run(house: _House, connection: Connection, tenant: str) -> None:
    first = TODAY - timedelta(days=364)
    _land(connection, tenant, first, range(2), 0.2)
    _land(connection, tenant, TODAY, range(2), 0.2)
    assert house.definitions.resolve_job_def(REFRESH_JOB).backfill_policy == dg.BackfillPolicy.single_run()
    result = house.run(REFRESH_JOB, {RANGE[0]: first.isoformat(), RANGE[1]: TODAY.isoformat()})
    days = [
        event.partition
        for event in result.get_asset_materialization_events()
        if event.asset_key.path == ["evaluations"]
    ]
    assert len(set(days)) == len(days) == 365
    assert connection.execute(_TOTALS).fetchall() == [(4,) * 5]
    assert house.instance.get_runs_count() == 1


@pytest.mark.begins(after=empty_marts)
def test_an_alert_on_a_template_and_tenant_that_no_refresh_has_seen_yet_shows_in_the_marts(
    house: _House, connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, TODAY, range(2), 0.1)
    house.refresh()
    create_tenant(connection, "newcomer")
    _land(connection, "newcomer", TODAY, range(1), 0.9, template="passport")
    scan(connection, NOW)
    house.run(ALERT_MARTS_JOB.name, {})
    shown = connection.execute("select template, event_type from marts.recent_alerts where tenant_id = 'newcomer'")
    assert ("passport", "drift_high") in shown.fetchall()
    counted = connection.execute("select alert_count > 0 from marts.overview where tenant_id = 'newcomer'")
    assert counted.fetchall() == [(True,)]


@pytest.mark.begins(after=empty_marts)
def test_ninety_days_materialized_three_times_over_notify_nobody(
    house: _House, connection: Connection, tenant: str
) -> None:
    def told() -> list[object]:
        with dg.build_sensor_context(instance=house.instance, definitions=house.definitions) as context:
            alert_sensor(ALERT_MARTS_JOB.name)(context, database=house.database, clock=CLOCK)
        return connection.execute("select dedupe_key from alerting.events order by seq").fetchall()

    first = TODAY - timedelta(days=89)
    for number in range(90):
        day = first + timedelta(days=number)
        # Calm until the last days, which rules and forecasts both find.
        _land(connection, tenant, day, range(24), 0.9 if number > 86 else 0.1 + number % 5 / 100)
    assert told()
    days = {RANGE[0]: first.isoformat(), RANGE[1]: TODAY.isoformat()}
    house.run(REFRESH_JOB, days)
    once = told()
    [[anomalies]] = connection.execute("select count(*) from ml.drift_forecasts where is_anomaly").fetchall()
    assert anomalies
    for _ in range(2):
        house.run(REFRESH_JOB, days)
        assert told() == once


@pytest.mark.begins(after=empty_marts)
def test_what_people_do_to_alerts_and_endpoints_is_shown_without_a_landing_and_by_their_marts_alone(
    house: _House, connection: Connection, tenant: str
) -> None:
    def asks() -> bool:
        with dg.build_sensor_context(instance=house.instance, definitions=house.definitions) as context:
            asked = alert_marts_sensor()(context, database=house.database, clock=CLOCK)
        return isinstance(asked, dg.RunRequest)

    _land(connection, tenant, TODAY, range(2), 0.9)
    scan(connection, NOW)
    box = SecretBox(["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="])
    made, _ = create_webhook(connection, box, tenant, "https://example.com/hook", now=NOW)
    house.refresh()
    assert not asks()
    (firing, *_) = list_alerts(connection, tenant, status="firing")
    alert_id = firing["alert_id"]
    assert isinstance(alert_id, UUID)
    deeds: tuple[Callable[[], object], ...] = (
        lambda: acknowledge(connection, tenant, alert_id, by="ana", now=NOW),
        lambda: resolve(connection, tenant, alert_id, now=NOW),
        lambda: pause_webhook(connection, tenant, made.webhook_id),
        lambda: resume_webhook(connection, tenant, made.webhook_id),
        lambda: connection.execute("update alerting.webhooks set breaker = 'open', breaker_until = now()"),
        lambda: delete_webhook(connection, tenant, made.webhook_id),
        lambda: plant_recommendation(
            connection, tenant, "invoice", [arm("v", name, 90, 10) for name in ("alpha", "beta")]
        ),
        lambda: rule(connection, tenant, Extractor("v", "beta"), is_retired=True) and publish(connection, tenant),
    )
    built = None
    for deed in deeds:
        deed()
        assert asks()
        ran = house.run(ALERT_MARTS_JOB.name, {})
        built = {event.asset_key.path[-1] for event in ran.get_asset_materialization_events()}
        assert not asks()
    assert built is not None
    assert {"recent_alerts", "webhook_health", "extractor_recommendations"} < built
    assert not {"evaluations", "drift_history"} & built
    shown = connection.execute("select status, acked_by from marts.recent_alerts where alert_id = %s", (alert_id,))
    assert shown.fetchall() == [("resolved", "ana")]
    left = connection.execute("select extractor_model from marts.extractor_recommendations")
    assert left.fetchall() == [("alpha",)]


def test_a_declared_batch_that_never_comes_is_asked_for_by_the_clock_alone_and_named_by_the_check(
    house: _House, connection: Connection, tenant: str
) -> None:
    def tick() -> dg.RunRequest | dg.SkipReason:
        with dg.build_sensor_context(instance=house.instance, definitions=house.definitions) as context:
            asked = manifest_sensor(RECONCILE_BATCHES_JOB.name)(context, database=house.database, clock=CLOCK)
        assert isinstance(asked, dg.RunRequest | dg.SkipReason)
        return asked

    assert isinstance(tick(), dg.SkipReason), "there is no mart yet"
    _land(connection, tenant, TODAY, range(1), 0.1)
    house.refresh()
    declare_manifest(connection, tenant, "never sent", expected=5)
    assert isinstance(tick(), dg.SkipReason), "it may still come"
    connection.execute("update raw.batch_manifests set declared_at = now() - raw.manifest_grace()")
    asked = tick()
    assert isinstance(asked, dg.RunRequest)
    assert isinstance(house.tick(), dg.SkipReason), "nothing has landed"
    ran = house.run(RECONCILE_BATCHES_JOB.name, {})
    checks = {check.check_name: check for check in ran.get_asset_check_evaluations()}
    missing = checks["declared_batches_arrived"]
    assert (missing.passed, missing.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert missing.description == "never sent of acme: MISSING, 0 of 5 (never_sent)"
    assert isinstance(tick(), dg.SkipReason), "it is judged"
    scan(connection, datetime.now(UTC))
    [metric] = connection.execute("select metric from alerting.alerts where event_type = 'evaluations_missing'")
    assert metric == ("missing_share",)


@pytest.mark.begins(after=empty_marts)
def test_a_refresh_tells_the_warnings_of_forecasts_that_run_apart_from_it(
    settings: Settings, database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_tenant(connection, "acme")
    know_template(connection, "acme", "loud")
    connection.execute(
        """insert into ml.drift_forecasts (tenant_id, template_id, template, measure, date, method, yhat, yhat_lower,
            yhat_upper, actual, evaluation_count, p_value, is_anomaly, budget_weeks, fitted_from, fitted_to,
            fitted_days, history_hash)
        select 'acme', %s, 'loud', 'drift', %s::date - ago, 'ewma', 0.1, 0, 0.2, 0.5, 9, 0, true, 26,
            %s::date - 120, %s::date - 90, 30, 0
        from generate_series(20, 60, 2) as ago""",
        (template_id("acme", "loud"), TODAY, TODAY, TODAY),
    )
    for name, value in {"EXECUTOR": "multiprocess", "SHARDS": "2"}.items():
        monkeypatch.setenv(f"TIDEMARK_FORECAST_{name}", value)
    apart = Platform(Settings(_env_file=None), database, CLOCK)  # type: ignore[call-arg]
    outcome = refresh_in_process(apart, force=True)
    warned = [told for told in outcome["warnings"] if "coverage_within_band (warn)" in told]
    assert "21 alarms of drift in 90 days" in warned[0], outcome
    assert outcome["checks_failed"] == len(outcome["failed"])
