"""Findings of forecasts become `drift_anomaly`, once, however often the forecasts are computed."""

from datetime import timedelta

from alert_rows import NOW, events, forecast, statuses

from sensors.alerts.scan import scan
from sensors.alerts.thresholds import set_threshold
from storage.database import Connection

TODAY = NOW.replace(hour=0, minute=0)
TYPE = "drift_anomaly"


def days(connection: Connection, tenant: str, anomalies: str, first: int) -> None:
    """Write days from `first` days ago on: `x` an anomaly, `.` none."""
    for number, mark in enumerate(anomalies):
        forecast(connection, tenant, TODAY - timedelta(days=first - number), anomaly=mark == "x")


def test_an_anomaly_fires_for_the_template_and_the_next_judged_day_without_one_resolves_it(
    connection: Connection, tenant: str
) -> None:
    days(connection, tenant, "..xx", 5)
    scan(connection, NOW)
    assert statuses(connection, TYPE) == ["firing"]
    (told,) = events(connection, TYPE)
    assert told["subject"] == {"template": "invoice", "extractor_vendor": None, "extractor_model": None}
    assert told["metric"] == {
        "name": "drift_score",
        "value": 0.5,
        "threshold": 0.2,
        "window_start": "2026-05-07T00:00:00Z",
        "window_end": "2026-05-08T00:00:00Z",
        "evaluation_count": 40,
    }
    days(connection, tenant, ".", 1)
    scan(connection, NOW)
    assert statuses(connection, TYPE) == ["firing", "resolved"]


def test_rematerializing_the_same_days_any_number_of_times_tells_nobody(connection: Connection, tenant: str) -> None:
    for _ in range(4):
        days(connection, tenant, "x.x.xx", 6)
        scan(connection, NOW)
    assert statuses(connection, TYPE) == ["firing", "resolved", "firing", "resolved", "firing"]
    row = connection.execute("select breach_count from alerting.alerts where status = 'firing'").fetchone()
    assert row == (2,)


def test_backfilled_anomalies_older_than_the_maximum_age_are_silent(connection: Connection, tenant: str) -> None:
    days(connection, tenant, "x" * 80, 90)
    scan(connection, NOW)
    assert events(connection) == []


def test_a_day_that_is_not_over_may_raise_an_alert_but_not_resolve_one(connection: Connection, tenant: str) -> None:
    days(connection, tenant, "x.", 1)
    scan(connection, NOW)
    assert statuses(connection, TYPE) == ["firing"]
    scan(connection, NOW + timedelta(days=1))
    assert statuses(connection, TYPE) == ["firing", "resolved"]
    forecast(connection, tenant, TODAY + timedelta(days=1), anomaly=True)
    scan(connection, NOW + timedelta(days=1))
    assert statuses(connection, TYPE) == ["firing", "resolved", "firing"]


def test_the_threshold_is_a_margin_above_the_forecasts_upper_bound(connection: Connection, tenant: str) -> None:
    set_threshold(connection, tenant, TYPE, 0.3)
    forecast(connection, tenant, TODAY, anomaly=True, actual=0.5)
    scan(connection, NOW)
    assert events(connection) == []
    forecast(connection, tenant, TODAY, anomaly=True, actual=0.51)
    scan(connection, NOW)
    assert [body["metric"]["threshold"] for body in events(connection)] == [0.5]  # type: ignore[index]
