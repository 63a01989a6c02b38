"""Evidence: every alert's SQL finds its number again, and says by whom, against what."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from alert_rows import evaluation, events, forecast, predict, push, statuses

from assets.evaluations.landing import land
from assets.evaluations.manifests import declare_manifest
from assets.evaluations.verdicts import Line
from assets.warehouse.build import run_dbt
from sensors.alerts.administration import list_alerts, show_alert
from sensors.alerts.rebaselines import list_rebaselines, rebaseline
from sensors.alerts.scan import scan
from sensors.alerts.thresholds import set_threshold
from storage.database import Connection, Database

DAY = timedelta(days=1)
MANIFEST = "update raw.batch_manifests set declared_at = now() - interval '2 hours'"
RHYTHM = "update alerting.rhythms set silent_from = last_arrived_at + interval '1 minute' where template = %s"


def refuse(connection: Connection, tenant: str, good: int, bad: int, number: int = 0) -> None:
    """Land one batch of so many good and bad lines."""
    records = [
        json.dumps(evaluation(number * 1000 + n, evaluation_id=None, record_id=f"{number}-{n}")) for n in range(good)
    ]
    records += [f"no record {number} {n}" for n in range(bad)]
    lines = [Line(place, record.encode()) for place, record in enumerate(records, start=1)]
    land(connection, tenant, "evaluations", lines, door="test", now=datetime.now(UTC))


def test_the_sql_of_every_alert_finds_its_number(connection: Connection, database: Database, tenant: str) -> None:
    now = datetime.now(UTC)
    noon = (now - DAY).replace(hour=12, minute=0)
    odd = "O'Brien's \\ %s {form}"
    records = [
        evaluation(n, at=noon - DAY + timedelta(seconds=n), features={"amount": 100 + n % 7, "pages": n % 3})
        for n in range(40)
    ]
    records += [
        evaluation(
            *(100 + n,),
            at=noon + timedelta(seconds=n),
            features={"amount": 150 + n % 7, "pages": n % 3},
            drift_score=0.2 if n % 4 else 0.9,
            extractor_model="model-1" if n % 4 else "model-2",
        )
        for n in range(40)
    ]
    records += [
        evaluation(200, at=now - timedelta(hours=3), template=odd, drift_score=0.7, reliability_score=0.3),
        evaluation(201, at=now - timedelta(hours=2), template=odd, drift_score=0.6, decision="review"),
    ]
    push(connection, tenant, records, now)
    refuse(connection, tenant, 3, 20)
    declare_manifest(connection, tenant, "b'1", expected=4)
    connection.execute(MANIFEST)
    forecast(connection, tenant, noon, anomaly=True, actual=0.375)
    forecast(connection, tenant, noon, anomaly=True, actual=0.6, measure="reliability")
    predict(connection, tenant, now, 0.75)
    predict(connection, tenant, now, 0.625, "reliability", 0.8)
    marts = (
        "batch_reconciliation",
        "feature_drift",
        "drift_forecasts",
        "reliability_forecasts",
        "int_evaluations_daily",
    )
    run_dbt(["run", "--select", *(f"+{mart}" for mart in marts)], database)
    scan(connection, now + timedelta(minutes=10))
    for template, later in (("invoice", 3), ("", 4)):
        connection.execute(RHYTHM, (template,))
        scan(connection, now + timedelta(hours=later))
    found = list_alerts(connection, tenant)
    metrics = {str(row["metric"]) for row in found}
    assert metrics == {
        *("drift_score", "reliability_score", "decision_review", "template_new", "rejected_share", "missing_share"),
        *("drift_crossing_probability", "reliability_crossing_probability", "feature_shift", "silent_hours"),
    }
    for row in found:
        evidence = row["evidence"]
        assert isinstance(evidence, dict)
        again = connection.execute(evidence["sql"]).fetchone()
        assert again is not None, evidence["sql"]
        assert float(again[0]) == pytest.approx(row["value"], abs=1e-6), evidence["sql"]
        assert (evidence["n"], evidence["threshold"]) == (row["evaluation_count"], row["threshold"])
        assert evidence["baseline"]["rule"]["set_for"] == "default"

    by_type = {str(row["event_type"]): row["evidence"] for row in found if "reliability" not in str(row["metric"])}
    assert [
        (row["value"], row["threshold"], row["evidence"]["comparison"])  # type: ignore[index]
        for row in found
        if (row["event_type"], row["metric"]) == ("drift_anomaly", "reliability_score")
    ] == [(0.6, 0.8, "below")]
    assert {row["template"] for row in found if row["metric"] == "silent_hours"} == {"", "invoice"}
    anomaly, feature, rejected = by_type["drift_anomaly"], by_type["feature_drift"], by_type["records_rejected"]
    worst = anomaly["contributors"][0]  # type: ignore[index]
    assert (worst["extractor_model"], worst["evaluation_count"], worst["mean"]) == ("model-2", 10, pytest.approx(0.9))
    assert anomaly["baseline"]["forecast"]["method"] == "zscore"  # type: ignore[index]
    assert [one["feature"] for one in feature["contributors"]] == ["amount"]  # type: ignore[index]
    assert rejected["contributors"][0]["rejected"] == 20  # type: ignore[index]
    [high] = [row for row in found if row["event_type"] == "drift_high" and row["template"] == odd]
    shown = show_alert(connection, tenant, high["alert_id"])  # type: ignore[arg-type]
    evidence = shown["evidence"]
    assert isinstance(evidence, dict)
    assert [one["value"] for one in evidence["contributors"]] == [0.7, 0.6]
    assert evidence["statistic"] == {"name": "drift_score", "value": 0.6, "worst": 0.7}


def test_a_senders_rejects_are_judged_over_its_newest_batches(connection: Connection, tenant: str) -> None:
    now = datetime.now(UTC)
    for number in range(30):
        refuse(connection, tenant, 1, 0, number)
    refuse(connection, tenant, 0, 1, 100)
    scan(connection, now)
    assert statuses(connection, "records_rejected") == [], "one of twenty is not above 0.05"
    refuse(connection, tenant, 0, 1, 101)
    scan(connection, now)
    for number in range(200, 219):
        refuse(connection, tenant, 1, 0, number)
    for _ in range(3):
        scan(connection, now)
    fired, resolved = events(connection, "records_rejected")
    assert (fired["metric"]["value"], fired["metric"]["evaluation_count"]) == (0.1, 20)  # type: ignore[index]
    assert fired["subject"] == {"template": None, "extractor_vendor": None, "extractor_model": None}
    assert (resolved["alert"]["status"], resolved["metric"]["value"]) == ("resolved", 0.05)  # type: ignore[index]
    assert resolved["metric"]["evaluation_count"] == 20, "windows that roll are not added up"  # type: ignore[index]


def test_a_predicted_crossing_is_told_once_with_its_day_and_ends_when_a_newer_forecast_stays_below(
    connection: Connection, tenant: str
) -> None:
    now = datetime(2026, 5, 10, 12, tzinfo=UTC)
    for _ in range(2):
        predict(connection, tenant, now, 0.96)
        # One half is within the bound of one half.
        predict(connection, tenant, now, 0.5, "reliability", 0.8)
        scan(connection, now)
    [told] = events(connection, "drift_predicted")
    assert told["metric"] == {
        "name": "drift_crossing_probability",
        "value": 0.96,
        "threshold": 0.5,
        "window_start": "2026-04-20T00:00:00Z",
        "window_end": "2026-05-10T00:00:00Z",
        "evaluation_count": 20,
        "expected_on": "2026-05-16",
    }
    # Since the forecast, not since the history it was made from: lists have the newest alert first.
    assert told["alert"]["started_at"] == "2026-05-10T00:00:00Z"  # type: ignore[index]
    # Whoever is content with less is told of an earlier day.
    set_threshold(connection, tenant, "drift_predicted", 0.2)
    for days, probability in ((1, 0.04), (2, 0.96)):
        connection.execute("delete from ml.drift_forecasts")
        predict(connection, tenant, now + days * DAY, probability)
        scan(connection, now + days * DAY)
    assert statuses(connection, "drift_predicted") == ["firing", "resolved", "firing"]
    assert [body["metric"].get("expected_on") for body in events(connection, "drift_predicted")] == [  # type: ignore[attr-defined]
        *("2026-05-16", None, "2026-05-16")
    ]


def test_drift_and_reliability_of_a_template_are_two_alerts_each_with_its_own_baseline(
    connection: Connection, tenant: str
) -> None:
    now = datetime(2026, 5, 10, 12, tzinfo=UTC)
    yesterday = now - DAY
    forecast(connection, tenant, yesterday, anomaly=True, actual=0.5)
    forecast(connection, tenant, yesterday, anomaly=True, actual=0.7, measure="reliability")
    scan(connection, now)
    drift, reliability = sorted(list_alerts(connection, tenant), key=lambda row: str(row["metric"]))
    assert (drift["metric"], drift["value"], drift["threshold"]) == ("drift_score", 0.5, 0.2)
    assert (reliability["metric"], reliability["value"], reliability["threshold"]) == ("reliability_score", 0.7, 0.8)
    for alert in (drift, reliability):
        rebaseline(connection, tenant, alert["alert_id"], reason="a new scanner", author="ops", now=now)  # type: ignore[arg-type]
    assert [row["ended_at"] for row in list_rebaselines(connection, tenant)] == [None, None]
    for measure, actual in (("drift", 0.45), ("reliability", 0.75)):
        forecast(connection, tenant, now, anomaly=True, actual=actual, measure=measure)
    scan(connection, now)
    assert statuses(connection, "drift_anomaly") == ["firing", "firing", "resolved", "resolved"]
    forecast(connection, tenant, now, anomaly=True, actual=0.65, measure="reliability")
    scan(connection, now)
    assert [(body["metric"]["name"], body["metric"]["threshold"]) for body in events(connection)[4:]] == [  # type: ignore[index]
        ("reliability_score", 0.7)
    ]
