"""The alert sensor by real ticks."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest
from alert_rows import NOW, evaluation, push

from sensors.alerts.inhibitions import add_inhibition
from sensors.alerts.matchers import parse_matcher
from sensors.alerts.policies import set_policy
from sensors.alerts.policy import Inhibition, Policy
from sensors.alerts.sensors import alert_sensor, alerts_asset
from sensors.alerts.silences import create_silence
from storage.clock import Clock
from storage.database import Connection, Database

HOUR = timedelta(hours=1)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def marts(connection: Connection) -> None:
    """The marts that the asked-for run refreshes, as far as the sensor looks."""
    connection.execute("create table marts.recent_alerts ()")


def tick(instance: dg.DagsterInstance, database: Database, cursor: str | None) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"database": database, "clock": Clock(now=lambda: NOW)}
    )
    result = alert_sensor("refresh_alert_marts")(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def test_before_the_first_refresh_alerts_are_told_of_and_no_run_is_asked_for(
    connection: Connection, database: Database, tenant: str, instance: dg.DagsterInstance
) -> None:
    push(connection, tenant, [evaluation(1, drift_score=0.9)])
    first = tick(instance, database, None)
    assert isinstance(first, dg.SensorResult)
    assert (first.run_requests, first.cursor, len(first.asset_events)) == ([], "2", 1)


@pytest.mark.usefixtures("marts")
def test_a_tick_asks_for_one_refresh_when_alerts_have_changed_and_for_none_when_not(
    connection: Connection, database: Database, tenant: str, instance: dg.DagsterInstance
) -> None:
    push(connection, tenant, [evaluation(1, drift_score=0.9)])
    first = tick(instance, database, None)
    assert isinstance(first, dg.SensorResult)
    assert first.run_requests is not None
    assert [request.run_key for request in first.run_requests] == ["alerts-2"]
    (materialization,) = first.asset_events
    assert isinstance(materialization, dg.AssetMaterialization)
    assert materialization.description == (
        "1 new batches; 2 alerts fired, 0 resolved, 0 deliveries queued; 1 firing now"
    )
    assert materialization.metadata["fired"].value == 2
    push(connection, tenant, [evaluation(2, drift_score=0.9)])
    second = tick(instance, database, first.cursor)
    assert isinstance(second, dg.SkipReason)
    assert second.skip_message == "1 new batches; 1 firing now"


@pytest.mark.usefixtures("marts")
def test_a_tick_says_how_much_is_not_told_and_why(
    connection: Connection, database: Database, tenant: str, instance: dg.DagsterInstance
) -> None:
    connection.execute("update alerting.thresholds set enabled = event_type = 'drift_high'")
    for name in ("a", "b"):
        matchers = [parse_matcher(f"template={name}")]
        create_silence(connection, tenant, matchers, ends_at=NOW + HOUR, author="ana", now=NOW)
    rule = Inhibition((parse_matcher("template=c"),), (parse_matcher("template=d"),))
    add_inhibition(connection, tenant, rule)
    set_policy(connection, tenant, Policy(group_by=(), group_wait=HOUR, suppression_window=HOUR))
    records = [evaluation(number, template=name, drift_score=0.9) for number, name in enumerate("abcde")]
    push(connection, tenant, records)
    first = tick(instance, database, None)
    assert isinstance(first, dg.SkipReason)
    assert first.skip_message is not None
    told = "5 firing now; not told: 2 silenced, 1 inhibited, 2 waiting in groups"
    assert first.skip_message.endswith(told)
    connection.execute("delete from alerting.silences")
    second = tick(instance, database, None)
    assert isinstance(second, dg.SkipReason)
    assert second.skip_message == "no new batches; 5 firing now; not told: 1 inhibited, 4 waiting in groups"


@pytest.mark.usefixtures("marts")
def test_a_lost_cursor_repeats_the_run_key_and_no_event(
    connection: Connection, database: Database, tenant: str, instance: dg.DagsterInstance
) -> None:
    push(connection, tenant, [evaluation(1, drift_score=0.9)])
    keys = []
    for _ in range(3):
        result = tick(instance, database, None)
        assert isinstance(result, dg.SensorResult)
        keys += [request.run_key for request in result.run_requests or ()]
    assert set(keys) == {"alerts-2"}
    assert connection.execute("select count(*) from alerting.events").fetchone() == (2,)


def test_the_sensor_runs_by_default_beside_its_external_asset() -> None:
    @dg.job
    def refresh_alert_marts() -> None: ...

    definitions = dg.Definitions(
        assets=[alerts_asset()],
        jobs=[refresh_alert_marts],
        sensors=[alert_sensor("refresh_alert_marts")],
        resources={"database": None, "clock": Clock()},
    )
    dg.Definitions.validate_loadable(definitions)
    sensor = definitions.get_repository_def().get_sensor_def("alerts")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert not definitions.get_repository_def().asset_graph.get(dg.AssetKey("alerts")).is_materializable
