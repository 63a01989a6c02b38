"""Late data: what it undoes is amended or retracted, once; what is old or the same as before is silent."""

from datetime import timedelta

from alert_rows import NOW, events, forecast, statuses

from sensors.alerts.administration import list_alerts, resolve
from sensors.alerts.scan import scan
from sensors.alerts.thresholds import set_threshold
from storage.database import Connection

TODAY = NOW.replace(hour=0, minute=0)
TYPE = "drift_anomaly"
DAY = timedelta(days=1)


def day(connection: Connection, tenant: str, ago: int, actual: float) -> None:
    """Write, or write again, the forecast of a day; its upper bound is 0.2."""
    forecast(connection, tenant, TODAY - ago * DAY, anomaly=actual > 0.2, actual=actual)


def told(connection: Connection) -> list[tuple[object, ...]]:
    return [
        (body["alert"]["status"], body["metric"]["value"], str(body["metric"]["window_start"])[:10])  # type: ignore[index]
        for body in events(connection, TYPE)
    ]


def scans(connection: Connection, times: int = 3) -> None:
    for _ in range(times):
        scan(connection, NOW)


def test_a_day_that_late_data_brings_back_within_bounds_is_retracted_once_whether_it_fires_or_not(
    connection: Connection, tenant: str
) -> None:
    for ago, actual in ((5, 0.5), (4, 0.1), (3, 0.6)):
        day(connection, tenant, ago, actual)
    scans(connection)
    fired = [("firing", 0.5, "2026-05-05"), ("resolved", 0.1, "2026-05-05"), ("firing", 0.6, "2026-05-07")]
    assert told(connection) == fired
    for ago, actual in ((5, 0.12), (3, 0.13)):
        day(connection, tenant, ago, actual)
    scans(connection)
    assert told(connection)[3:] == [("retracted", 0.12, "2026-05-05"), ("retracted", 0.13, "2026-05-07")]
    first, retracted = events(connection, TYPE)[0], events(connection, TYPE)[3]
    assert first["alert"]["id"] == retracted["alert"]["id"]  # type: ignore[index]
    assert set(first) == set(retracted)
    rows = list_alerts(connection, tenant, event_type=TYPE)
    assert [(row["status"], row["is_retracted"]) for row in rows] == [("resolved", True), ("resolved", True)]
    day(connection, tenant, 3, 0.7)
    scans(connection)
    assert told(connection)[5:] == [("firing", 0.7, "2026-05-07")], "and there it is again"


def test_days_that_stay_out_of_bounds_open_the_next_alert_when_the_first_is_retracted(
    connection: Connection, tenant: str
) -> None:
    for ago in (3, 2, 1):
        day(connection, tenant, ago, 0.5)
    scans(connection)
    day(connection, tenant, 3, 0.1)
    scans(connection)
    assert told(connection) == [
        ("firing", 0.5, "2026-05-07"),
        ("retracted", 0.1, "2026-05-07"),
        ("firing", 0.5, "2026-05-08"),
    ]


def test_a_materially_other_value_amends_and_a_slightly_other_one_does_not(connection: Connection, tenant: str) -> None:
    day(connection, tenant, 3, 0.5)
    scans(connection)
    for actual in (0.54, 0.5, 0.7, 0.7, 0.68):
        day(connection, tenant, 3, actual)
        scans(connection)
    assert told(connection) == [("firing", 0.5, "2026-05-07"), ("amended", 0.7, "2026-05-07")]
    [row] = list_alerts(connection, tenant, event_type=TYPE)
    assert (row["status"], row["value"]) == ("firing", 0.7)


def test_a_day_that_is_not_over_is_neither_amended_nor_retracted_until_it_is(
    connection: Connection, tenant: str
) -> None:
    day(connection, tenant, 0, 0.5)
    scans(connection)
    for actual in (0.9, 0.1):
        day(connection, tenant, 0, actual)
        scans(connection)
    assert statuses(connection, TYPE) == ["firing"]
    for _ in range(3):
        scan(connection, NOW + DAY)
    assert statuses(connection, TYPE) == ["firing", "retracted"]


def test_a_moved_threshold_retracts_nothing_and_neither_does_a_resolution_by_hand(
    connection: Connection, tenant: str
) -> None:
    day(connection, tenant, 3, 0.5)
    scans(connection)
    set_threshold(connection, tenant, TYPE, 0.4)
    scans(connection)
    [row] = list_alerts(connection, tenant, event_type=TYPE)
    resolve(connection, tenant, row["alert_id"], now=NOW)  # type: ignore[arg-type]
    scans(connection)
    assert statuses(connection, TYPE) == ["firing", "resolved"]


def test_ninety_days_made_anew_three_times_notify_nobody_and_old_ones_restated_neither(
    connection: Connection, tenant: str
) -> None:
    history = {ago: 0.5 if ago % 3 == 0 else 0.1 for ago in range(1, 91)}
    for ago, actual in history.items():
        day(connection, tenant, ago, actual)
    scans(connection)
    before = events(connection)
    assert before
    for _ in range(3):
        for ago, actual in history.items():
            day(connection, tenant, ago, actual)
            if ago % 30 == 0:
                scan(connection, NOW)
        scans(connection)
    for ago in range(8, 91):
        day(connection, tenant, ago, 0.9)
    scans(connection)
    assert events(connection) == before
