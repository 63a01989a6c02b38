"""What people do with alerts and thresholds, with its trace, and never across tenants."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from alert_rows import NOW, evaluation, push, statuses

from sensors.alerts.administration import acknowledge, list_alerts, resolve
from sensors.alerts.scan import scan
from sensors.alerts.thresholds import list_thresholds, set_threshold, unset_threshold
from storage.database import Connection
from storage.errors import UsageError
from storage.tenants import create_tenant


@pytest.fixture
def firing(connection: Connection, tenant: str) -> UUID:
    """A firing drift_high of the tenant."""
    create_tenant(connection, "other")
    push(connection, tenant, [evaluation(1, drift_score=0.9)])
    scan(connection, NOW)
    (alert,) = list_alerts(connection, tenant, status="firing")
    alert_id = alert["alert_id"]
    assert isinstance(alert_id, UUID)
    return alert_id


def actions(connection: Connection) -> list[str]:
    return [row[0] for row in connection.execute("select action from access.audit_log order by entry_id")]


def test_an_acknowledged_alert_goes_on_firing_and_the_first_who_looks_after_it_stands(
    connection: Connection, tenant: str, firing: UUID
) -> None:
    assert acknowledge(connection, tenant, firing, by="ana", now=NOW)
    assert not acknowledge(connection, tenant, firing, by="ben", now=NOW)
    (alert,) = list_alerts(connection, tenant, status="firing")
    assert (alert["acked_by"], alert["acked_at"]) == ("ana", NOW)
    assert actions(connection).count("alert.ack") == 1


def test_an_alert_resolved_by_hand_is_told_once_and_a_later_breach_opens_the_next(
    connection: Connection, tenant: str, firing: UUID
) -> None:
    assert resolve(connection, tenant, firing, now=NOW)
    assert not resolve(connection, tenant, firing, now=NOW)
    assert statuses(connection, "drift_high") == ["firing", "resolved"]
    assert actions(connection).count("alert.resolve") == 1
    assert not acknowledge(connection, tenant, firing, by="ana", now=NOW), "there is nothing to look after"
    push(connection, tenant, [evaluation(2, drift_score=0.9)])
    scan(connection, NOW)
    assert statuses(connection, "drift_high") == ["firing", "resolved", "firing"]


def test_another_tenants_alert_reads_as_an_unknown_one(connection: Connection, tenant: str, firing: UUID) -> None:
    assert list_alerts(connection, "other") == []
    for alert_id in (firing, uuid4()):
        with pytest.raises(UsageError, match=f"unknown alert {alert_id}"):
            resolve(connection, "other", alert_id, now=NOW)
        with pytest.raises(UsageError, match=f"unknown alert {alert_id}"):
            acknowledge(connection, "other", alert_id, by="eve", now=NOW)
    assert statuses(connection, "drift_high") == ["firing"]


def test_what_a_threshold_is_not_given_comes_from_the_wider_one_or_stays(connection: Connection, tenant: str) -> None:
    set_threshold(connection, tenant, "drift_high", 0.5, severity="critical", clear_n=7)
    narrow = set_threshold(connection, tenant, "drift_high", 0.6, template="invoice")
    assert (narrow.severity, narrow.clear_n, narrow.comparison) == ("critical", 7, "above")
    again = set_threshold(connection, tenant, "drift_high", template="invoice", max_age=timedelta(days=2))
    assert (again.value, again.max_age) == (0.6, timedelta(days=2))
    own = [row.template for row in list_thresholds(connection, tenant) if row.event_type == "drift_high"]
    assert own == ["invoice", None, None]
    assert actions(connection).count("threshold.set") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event_type": "drift_hihg", "value": 0.5}, "drift_high, drift_predicted, evaluations_missing"),
        ({"event_type": "drift_high", "value": float("nan")}, "between 0 and 1"),
        ({"event_type": "drift_high", "value": 1.1}, "between 0 and 1"),
        (
            {"event_type": "extractor_change", "value": 3.0},
            "between 0 and 1, by how much the rate",
        ),
        ({"event_type": "extractor_change", "window_n": 20}, "isn't judged evaluation by evaluation"),
        ({"event_type": "drift_high", "clear_n": 0}, "clear-n"),
        ({"event_type": "drift_high", "max_age": timedelta(days=4000)}, "3650 days"),
        ({"event_type": "drift_high", "template": "x" * 201}, "200 characters"),
        ({"event_type": "drift_high", "tenant_id": "nobody"}, "unknown tenant 'nobody'"),
    ],
)
def test_a_threshold_that_makes_no_sense_is_refused_with_the_remedy(
    connection: Connection, tenant: str, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        set_threshold(connection, **({"tenant_id": tenant} | arguments))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="has set no threshold of drift_high"):
        unset_threshold(connection, tenant, "drift_high")
