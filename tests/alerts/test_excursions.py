"""When an anomaly is over: not while its template stays away from where it was, and never without a reason."""

import json
from datetime import timedelta

import pytest
from alert_rows import NOW as NOON
from alert_rows import events, forecast, predict, statuses
from forecast_marts import NOW, TENANT, YESTERDAY, calm, fill, materialize, prepare
from numpy.random import default_rng
from typer.testing import CliRunner

from orchestration.cli import app
from sensors.alerts.administration import list_alerts, show_alert
from sensors.alerts.rebaselines import rebaseline
from sensors.alerts.scan import scan
from sensors.alerts.thresholds import set_threshold
from storage.database import Connection, Database
from storage.settings import Settings

TYPE = "drift_anomaly"
DAY = timedelta(days=1)
TODAY = NOON.replace(hour=0, minute=0)
KNOWN = """
insert into access.templates (template_id, tenant_id, template, first_batch_id, first_seen_at)
select template_id, tenant_id, template, uuidv7(), now()
from marts.drift_history group by template_id, tenant_id, template
"""


def told(connection: Connection, template: str) -> list[tuple[object, ...]]:
    """What was told of a template's drift, each with why it was over, if it was."""
    return [
        (body["alert"]["status"], body["alert"].get("resolved_because"))  # type: ignore[index, attr-defined]
        for body in events(connection, TYPE)
        if (body["subject"]["template"], body["metric"]["name"]) == (template, "drift_score")  # type: ignore[index]
    ]


@pytest.mark.begins(after=prepare)
def test_a_climb_and_a_shift_have_one_alert_each_until_the_new_level_is_the_normal_one_and_a_spike_is_over_at_once(
    database: Database, connection: Connection
) -> None:
    known = calm(default_rng(11), 120)
    fill(connection, TENANT, "moved", [*known[:-32], *(value + 0.2 for value in known[-32:])])
    connection.execute(KNOWN)
    for ago in (28, 14, 0):
        materialize(database, NOW - ago * DAY)
    moved = "select count(*) from ml.drift_forecasts where template = 'moved' and is_anomaly and measure = 'drift'"
    assert connection.execute(moved).fetchall() == [(14,)], "then the level is learnt"
    ended = {}
    for ago in reversed(range(40)):
        scan(connection, NOW - ago * DAY)
        ended |= {len(told(connection, "moved")): ago} if len(told(connection, "moved")) not in ended else {}
    assert told(connection, "moved") == [("firing", None), ("resolved", "new_level")]
    assert ended[1] > 28
    assert ended[2] < 10
    assert told(connection, "climbing") == [("firing", None)]
    assert told(connection, "spiking") == [("firing", None), ("resolved", "within_bounds")]


@pytest.mark.begins(after=prepare)
def test_an_open_anomaly_whose_days_records_are_corrected_away_is_retracted(
    database: Database, connection: Connection
) -> None:
    connection.execute(KNOWN)
    materialize(database)
    scan(connection, NOW)
    assert told(connection, "young") == [("firing", None)]
    connection.execute("delete from marts.drift_history where template = 'young' and date = %s", (YESTERDAY,))
    materialize(database)
    for _ in range(2):
        scan(connection, NOW)
    assert told(connection, "young") == [("firing", None), ("retracted", None)]
    [metric] = [
        body["metric"]
        for body in events(connection, TYPE)
        if body["alert"]["status"] == "retracted" and body["metric"]["name"] == "drift_score"  # type: ignore[index]
    ]
    assert (metric["value"], metric["evaluation_count"]) == (None, 0)  # type: ignore[index]


def test_a_withdrawn_day_says_nothing_of_an_alert_that_did_not_tell_it(connection: Connection, tenant: str) -> None:
    forecast(connection, tenant, TODAY - 3 * DAY, anomaly=True)
    forecast(connection, tenant, TODAY - 2 * DAY, anomaly=False)
    gone = "update ml.drift_forecasts set actual = null, p_value = null, evaluation_count = 0 where date = %s"
    connection.execute(gone, (TODAY - 2 * DAY,))
    scan(connection, NOON)
    assert statuses(connection, TYPE) == ["firing"]
    forecast(connection, tenant, TODAY - DAY, anomaly=False)
    scan(connection, NOON)
    assert statuses(connection, TYPE) == ["firing", "resolved"]


@pytest.mark.parametrize(
    ("measure", "bad", "far", "near"), [("drift", 0.5, 0.15, 0.11), ("reliability", 0.5, 0.85, 0.89)]
)
def test_a_day_within_its_bound_ends_an_anomaly_once_it_is_near_what_was_expected_two_weeks_before(
    connection: Connection, tenant: str, measure: str, bad: float, far: float, near: float
) -> None:
    for ago in (17, 16, 15):
        forecast(connection, tenant, TODAY - ago * DAY, anomaly=False, measure=measure)
    for ago, actual in ((3, bad), (2, far), (1, near)):
        forecast(connection, tenant, TODAY - ago * DAY, anomaly=ago == 3, actual=actual, measure=measure)
        scan(connection, NOON - (ago - 1) * DAY)
    seen = [(body["alert"]["status"], body["metric"]["value"]) for body in events(connection, TYPE)]  # type: ignore[index]
    assert seen == [("firing", bad), ("resolved", near)]


def test_a_day_at_a_level_that_somebody_has_accepted_is_not_far_from_where_it_was(
    connection: Connection, tenant: str
) -> None:
    for ago in (20, 19, 18, 17, 16, 15):
        forecast(connection, tenant, TODAY - ago * DAY, anomaly=False)
    forecast(connection, tenant, TODAY - 6 * DAY, anomaly=True, actual=0.25)
    scan(connection, NOON - 5 * DAY)
    [first] = list_alerts(connection, tenant)
    rebaseline(connection, tenant, first["alert_id"], reason="new", author="ops", now=NOON - 5 * DAY)  # type: ignore[arg-type]
    forecast(connection, tenant, TODAY - 2 * DAY, anomaly=True, actual=0.6)
    scan(connection, NOON - DAY)
    forecast(connection, tenant, TODAY - DAY, anomaly=False, actual=0.18)
    scan(connection, NOON)
    assert statuses(connection, TYPE) == ["firing", "resolved", "firing", "resolved"]
    endings = [row["resolved_because"] for row in list_alerts(connection, tenant)]
    assert endings == ["within_bounds", "rebaselined"]
    assert show_alert(connection, tenant, first["alert_id"])["resolved_because"] == "rebaselined"  # type: ignore[arg-type]


def test_a_prediction_is_over_with_its_week_where_nothing_has_come_since(connection: Connection, tenant: str) -> None:
    predict(connection, tenant, NOON, 0.96)
    for ahead in (0, 6, 7, 7, 20):
        scan(connection, NOON + ahead * DAY)
        assert statuses(connection, "drift_predicted") == ["firing", "resolved"][: 2 if ahead > 6 else 1]
    over = events(connection, "drift_predicted")[1]
    assert (over["alert"]["resolved_because"], over["metric"]["window_end"]) == (  # type: ignore[index]
        "outdated",
        "2026-05-17T00:00:00Z",
    )
    predict(connection, tenant, NOON + 20 * DAY, 0.9)
    scan(connection, NOON + 20 * DAY)
    assert statuses(connection, "drift_predicted") == ["firing", "resolved", "firing"]


def test_a_wider_margin_ends_an_anomaly_within_bounds_whatever_its_level(connection: Connection, tenant: str) -> None:
    forecast(connection, tenant, TODAY - 2 * DAY, anomaly=True, actual=0.4)
    scan(connection, NOON - DAY)
    set_threshold(connection, tenant, TYPE, 0.5)
    forecast(connection, tenant, TODAY - DAY, anomaly=True, actual=0.4)
    scan(connection, NOON)
    assert [row["resolved_because"] for row in list_alerts(connection, tenant)] == ["within_bounds"]


def test_lists_of_alerts_tell_a_templates_two_alerts_apart_and_why_one_is_over(
    connection: Connection, tenant: str, settings: Settings
) -> None:
    assert settings
    for measure in ("drift", "reliability"):
        forecast(connection, tenant, TODAY, anomaly=True, actual=0.5, measure=measure)
    scan(connection, NOON)
    [drift] = [row for row in list_alerts(connection, tenant) if row["metric"] == "drift_score"]
    run = CliRunner()
    assert run.invoke(app, ["alert", "resolve", str(drift["alert_id"]), "-t", tenant]).exit_code == 0
    listed = json.loads(run.invoke(app, ["alert", "list", "-t", tenant, "--json"]).stdout)
    assert {(row["metric"], row["resolved_because"]) for row in listed} == {
        ("drift_score", "by_hand"),
        ("reliability_score", None),
    }
    table = run.invoke(app, ["alert", "list", "-t", tenant]).stdout
    assert all(text in table for text in ("drift_score", "reliability_score", "by_hand"))
    assert events(connection, TYPE)[-1]["alert"]["resolved_because"] == "by_hand"  # type: ignore[index]


@pytest.mark.begins(after=prepare)
def test_an_accepted_level_is_what_is_ahead_from_the_next_refresh_on_with_and_without_memory(
    database: Database, connection: Connection
) -> None:
    known = calm(default_rng(12), 100)
    fill(connection, TENANT, "moved", [*known[:-6], *(value + 0.2 for value in known[-6:])])
    connection.execute(KNOWN)
    ahead = "select avg(yhat) from ml.drift_forecasts where template = 'moved' and measure = 'drift' and actual is null"
    judged = "select * from ml.drift_forecasts where actual is not null order by forecast_id"
    coming = """
        select template, measure, date, yhat, yhat_upper, p_crossing from ml.drift_forecasts where actual is null
        order by template, measure, date
    """
    materialize(database)
    scan(connection, NOW)
    stands, [(before,)] = connection.execute(judged).fetchall(), connection.execute(ahead).fetchall()
    [alert] = [
        row
        for row in list_alerts(connection, TENANT, template="moved", event_type=TYPE)
        if "drift" in str(row["metric"])
    ]
    rebaseline(connection, TENANT, alert["alert_id"], reason="new forms", author="ops", now=NOW)  # type: ignore[arg-type]
    materialize(database)
    [(after,)] = connection.execute(ahead).fetchall()
    assert before < 0.15
    assert after > 0.25
    assert connection.execute(judged).fetchall() == stands
    said = connection.execute(coming).fetchall()
    connection.execute("truncate ml.forecast_memory")
    connection.execute("delete from ml.drift_forecasts where actual is null")
    materialize(database)
    assert connection.execute(coming).fetchall() == said
