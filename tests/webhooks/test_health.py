"""Alerts and deliveries as the page shows them: observed, judged, and told with a remedy."""

from collections.abc import Iterator

import dagster as dg
import pytest
from delivering import SetClock, happen, register, send
from mart_records import evaluation, push
from receiver import Receiver, answer

from sensors.assets import DELIVERIES, alerting_health, deliveries_arrive, evaluations_are_judged
from storage.database import Connection, Database
from storage.secrets import SecretBox


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def tick(
    instance: dg.DagsterInstance, database: Database, clock: SetClock, cursor: str | None = None
) -> dg.SensorResult | dg.SkipReason:
    resources = {"database": database, "clock": clock}
    result = alerting_health(dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources))
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def judged(database: Database, clock: SetClock) -> tuple[bool, str]:
    result = deliveries_arrive(database, clock)
    assert isinstance(result, dg.AssetCheckResult)
    return result.passed, result.description or ""


def test_a_tick_observes_and_judges_when_something_has_changed_and_else_only_says_so(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    clock: SetClock,
    receiver: Receiver,
    instance: dg.DagsterInstance,
) -> None:
    register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "one")
    first = tick(instance, database, clock)
    assert isinstance(first, dg.SensorResult)
    of_alerts, of_deliveries, *checks = first.asset_events
    assert isinstance(of_deliveries, dg.AssetObservation)
    assert (of_deliveries.asset_key, of_deliveries.metadata["pending"].value) == (DELIVERIES, 1)
    assert isinstance(of_alerts, dg.AssetObservation)
    assert of_alerts.metadata["firing"].value == 0
    assert [check.passed for check in checks if isinstance(check, dg.AssetCheckEvaluation)] == [True, True]
    again = tick(instance, database, clock, first.cursor)
    assert isinstance(again, dg.SkipReason)
    assert again.skip_message == (
        "0 alerts fire, 0 of them unacknowledged; 1 deliveries open, 0 failed in the last day, 0 endpoints not served"
    )
    clock.move(minutes=6)
    late = tick(instance, database, clock, first.cursor)
    assert isinstance(late, dg.SensorResult)
    assert late.skip_reason is not None
    assert "due since 6 minutes" in str(late.skip_reason.skip_message)


def test_the_check_names_what_is_overdue_failed_or_disabled_and_what_to_do(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, _ = register(connection, box, tenant, receiver.url + "/url-token", clock)
    assert judged(database, clock) == (True, "")
    happen(connection, tenant, clock, "one")
    clock.move(minutes=7)
    passed, told = judged(database, clock)
    assert (passed, "due since 7 minutes" in told, "tidemark webhook deliver" in told) == (False, True, True)
    receiver.behaviour = answer(410)
    send(database, box, clock)
    passed, told = judged(database, clock)
    assert not passed
    assert f"webhook {webhook_id} of acme (http://127.0.0.1:{receiver.port}/…) is disabled" in told
    assert "tidemark webhook resume" in told
    assert "1 delivery has failed for good" in told
    assert "replay --state failed" in told
    clock.move(days=2)
    connection.execute("update alerting.webhooks set status = 'active'")
    assert judged(database, clock) == (True, "")
    connection.execute(
        """update alerting.webhooks
           set breaker = 'half_open', breaker_reason = 'it answered 404', failing_since = '2026-05-01 12:00Z'"""
    )
    told = judged(database, clock)[1]
    assert "held back since 2026-05-01 12:00 UTC (it answered 404), so its deliveries wait" in told
    assert "tidemark webhook resume" in told


def test_evaluations_that_nobody_judges_are_told_of(connection: Connection, database: Database, tenant: str) -> None:
    def judged_alerts() -> dg.AssetCheckResult:
        result = evaluations_are_judged(database)
        assert isinstance(result, dg.AssetCheckResult)
        return result

    assert judged_alerts().passed
    push(connection, tenant, "evaluations", [evaluation()])
    connection.execute("update raw.ingest_batches set received_at = received_at - interval '1 hour'")
    found = judged_alerts()
    assert not found.passed
    assert "1 landed batches wait" in str(found.description)
