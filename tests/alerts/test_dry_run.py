"""A replay of the deployed rules is the log, one of other rules what they would have told; neither leaves a trace."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from alert_rows import NOW, alerts, evaluation, events, forecast
from alert_rows import push as land_now
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensors.alerts.administration import list_alerts, resolve
from sensors.alerts.dry_run import DryRun, dry_run
from sensors.alerts.matchers import parse_matcher
from sensors.alerts.scan import scan
from sensors.alerts.silences import create_silence
from storage.database import Connection

HOUR = timedelta(hours=1)
TABLES = ("alerts", "events", "notifications", "positions", "thresholds", "webhook_deliveries", "suppressions")


def push(connection: Connection, tenant: str, records: Sequence[Mapping[str, object]], now: datetime) -> None:
    """Land a batch that was received then; the database's clock has no say in it."""
    land_now(connection, tenant, records, now)
    connection.execute(
        """update raw.ingest_batches set received_at = %s
           where batch_id = (select batch_id from raw.ingest_batches order by xact_id desc limit 1)""",
        (now,),
    )


def rerun(connection: Connection, tenant: str, now: datetime, days: int = 7, change: str = "select 1") -> DryRun:
    return dry_run(connection, tenant, days=days, now=now, change=lambda: connection.execute(change))  # type: ignore[arg-type]


def everything(connection: Connection) -> list[object]:
    return [connection.execute(f"select * from alerting.{table} order by 1").fetchall() for table in TABLES]  # type: ignore[arg-type]  # noqa: S608


OTHER_PLANS = "select set_config('enable_nestloop', 'off', true), set_config('enable_hashjoin', 'off', true)"
VALUE = st.floats(0, 1).map(lambda value: round(value, 2))
ROW = st.tuples(
    st.sampled_from(["a", "b"]), st.sampled_from(["m1", "m2"]), VALUE, VALUE, st.sampled_from(["accept", "review"])
)
RESTATED_BEFORE = "late data has restated what was told before what can be replayed"
# Hours until a batch lands, hours that its data is old by then, its rows, whether it is scanned at once.
BATCH = st.tuples(
    st.integers(0, 30), st.sampled_from([0, 0, 1, 50, 166, 170]), st.lists(ROW, max_size=4), st.booleans()
)


# How many evaluations a mean is of, from what time, and from how many on it is judged; nothing: each by itself.
WINDOWS: st.SearchStrategy[tuple[int | None, timedelta | None, int | None]] = st.sampled_from(
    [(None, None, None), (3, None, 1), (2, 72 * HOUR, None), (None, 40 * HOUR, 2)]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(BATCH, min_size=2, max_size=14), days=st.integers(1, 7), window=WINDOWS)
def test_whatever_landed_however_it_was_scanned_the_replay_of_the_deployed_rules_is_the_log_exactly(
    connection: Connection,
    tenant: str,
    batches: Sequence[tuple[int, int, list[tuple[object, ...]], bool]],
    days: int,
    window: tuple[int | None, timedelta | None, int | None],
) -> None:
    connection.execute(
        """truncate raw.evaluations, raw.evaluation_keys, raw.ingest_batches, access.templates, alerting.alerts,
               alerting.events, alerting.positions, alerting.silences, alerting.arrivals, alerting.rhythms,
               alerting.windows cascade"""
    )
    connection.execute(
        """update alerting.thresholds set window_n = %s, window_span = %s, min_n = %s
           where event_type in ('drift_high', 'reliability_low', 'decision_review')""",
        window,
    )
    connection.execute("update alerting.thresholds set enabled = event_type <> 'evaluations_missing'")
    now, number = NOW, 0
    for wait, age, rows, is_scanned in batches:
        now += wait * HOUR
        records = []
        for template, model, drift, reliability, decision in rows:
            number += 1
            records.append(
                evaluation(
                    number,
                    at=now - age * HOUR - HOUR / 2 + timedelta(seconds=number),
                    template=template,
                    extractor_model=model,
                    drift_score=drift,
                    reliability_score=reliability,
                    decision=decision,
                )
            )
        if records:
            push(connection, tenant, records, now)
        # Who scans later than that judges by another clock, and says so in the log by nothing but the outcome.
        if is_scanned or age > 100:
            scan(connection, now)
    scan(connection, now)
    before = everything(connection)
    # What has no order of its own in a query comes as its plan has it, which changes with a table's statistics.
    found = rerun(connection, tenant, now, days, change=OTHER_PLANS)
    assert (found.differences, found.equals_log) == ([], True)
    assert {one.reason for one in found.not_compared} <= ({RESTATED_BEFORE} if any(window) else set())
    since = now - timedelta(days=days)
    logged = connection.execute(
        """select count(*) from alerting.notifications
           where not (transition = 'firing' and number > 0) and window_end >= %s""",
        (since,),
    ).fetchone()
    assert found.not_compared or (len(found.deployed),) == logged
    assert found.proposed == found.deployed
    assert everything(connection) == before


def test_a_dry_run_tells_what_other_rules_would_have_fired_and_what_not_and_leaves_no_trace(
    connection: Connection, tenant: str
) -> None:
    connection.execute("update alerting.thresholds set enabled = event_type like '%%drift_%%'", ())
    for number, (template, score) in enumerate([("a", 0.5), ("b", 0.25), ("a", 0.1), ("a", 0.1), ("a", 0.1)]):
        push(connection, tenant, [evaluation(number, template=template, drift_score=score)], NOW)
        scan(connection, NOW)
    before = everything(connection)
    stricter = "update alerting.thresholds set value = 0.2 where event_type = 'drift_high'"
    report = rerun(connection, tenant, NOW + HOUR, change=stricter).report()
    assert report["deployed"] == {"firing": 1, "resolved": 1}
    assert report["proposed"] == {"firing": 2, "resolved": 1}
    assert [one["template"] for one in report["would_fire_besides"]] == ["b"]  # type: ignore[attr-defined]
    assert report["would_not_fire"] == []
    looser = "update alerting.thresholds set value = 0.9 where event_type = 'drift_high'"
    report = rerun(connection, tenant, NOW + HOUR, change=looser).report()
    assert [one["template"] for one in report["would_not_fire"]] == ["a"]  # type: ignore[attr-defined]
    assert (report["proposed"], report["deployed_replay_equals_log"], report["compared"]) == ({}, True, 2)
    assert everything(connection) == before


def test_what_was_silenced_is_in_the_log_and_what_a_hand_did_is_said_to_be_beyond_a_replay(
    connection: Connection, tenant: str
) -> None:
    connection.execute("update alerting.thresholds set enabled = event_type = 'drift_high'")
    create_silence(connection, tenant, [parse_matcher("template=~.+")], ends_at=NOW + HOUR, author="ana", now=NOW)
    for number, template in enumerate(("a", "b")):
        push(connection, tenant, [evaluation(number, template=template, drift_score=0.9)], NOW)
        scan(connection, NOW)
    assert events(connection) == []
    (alert, _) = list_alerts(connection, tenant)
    assert isinstance(alert["alert_id"], UUID)
    resolve(connection, tenant, alert["alert_id"], now=NOW)
    found = rerun(connection, tenant, NOW)
    assert (found.equals_log, found.compared) == (True, 1)
    assert [(one.what.split("/")[3], one.reason) for one in found.not_compared] == [
        (alert["template"], "somebody resolved an alert by hand")
    ]


def test_days_of_forecasts_are_replayed_in_their_order(connection: Connection, tenant: str) -> None:
    connection.execute("update alerting.thresholds set enabled = event_type like 'drift_%%'", ())
    for day in range(6):
        now = NOW + timedelta(days=day)
        push(connection, tenant, [evaluation(day, at=now - HOUR)], now)
        forecast(connection, tenant, now - timedelta(days=1), anomaly=day in (1, 2, 4))
        scan(connection, now)
    found = rerun(connection, tenant, NOW + timedelta(days=5))
    assert [one.transition for one in found.deployed] == ["firing", "resolved", "firing", "resolved"]
    assert (found.equals_log, found.compared, found.not_compared) == (True, 4, [])


FEATURES = """
create table if not exists marts.feature_drift as
select tenant_id, template_id, template, null::text as feature, created_at::date as date, 0.0::float8 as p_value,
    0.0::float8 as shift, 0.0::float8 as mean, 0.0::float8 as baseline_mean, 0 as value_count, 0 as null_count,
    0 as baseline_count
from raw.evaluations where false
"""
SHIFT = """
insert into marts.feature_drift
    (tenant_id, template_id, template, feature, date, p_value, shift, value_count, null_count)
values (%s, '00000000-0000-0000-0000-000000000001', 'invoice', 'amount', %s, 1e-9, %s, 40, 0)
"""


def test_days_of_features_are_replayed_and_what_a_silence_would_keep_back_is_named(
    connection: Connection, tenant: str
) -> None:
    connection.execute("update alerting.thresholds set enabled = event_type = 'feature_drift'")
    connection.execute(FEATURES)  # type: ignore[arg-type]
    ends = NOW + timedelta(days=2)
    create_silence(connection, tenant, [parse_matcher("template=invoice")], ends_at=ends, author="ana", now=NOW)
    for day, shift in enumerate([0.1, 0.9, 0.2, 0.4, 0.1, 0.45, 0.1]):
        now = NOW + timedelta(days=day)
        push(connection, tenant, [evaluation(day, at=now - HOUR)], now)
        connection.execute(SHIFT, (tenant, now.date() - timedelta(days=1), shift))
        scan(connection, now)
    stricter = "update alerting.thresholds set value = 0.3 where event_type = 'feature_drift'"
    found = rerun(connection, tenant, NOW + timedelta(days=6), change=stricter)
    assert [one.transition for one in found.deployed] == ["firing", "resolved"]
    assert (found.equals_log, found.compared, found.not_compared) == (True, 2, [])
    besides = found.report()["would_fire_besides"]
    assert [(f"{one['window_start']:%d}", one["silenced"]) for one in besides] == [("12", False), ("14", False)]  # type: ignore[attr-defined]
    assert [f"{one.window_start:%d}" for one in found.silenced] == ["10"]


def test_an_alert_that_has_been_open_since_before_the_reach_is_named_and_the_others_are_compared(
    connection: Connection, tenant: str
) -> None:
    connection.execute("update alerting.thresholds set enabled = event_type = 'drift_high'")
    push(connection, tenant, [evaluation(1, template="old", drift_score=0.9)], NOW)
    scan(connection, NOW)
    now = NOW + timedelta(days=60)
    for number, template in enumerate(("old", "new"), start=2):
        push(connection, tenant, [evaluation(number, at=now - HOUR, template=template, drift_score=0.9)], now)
    scan(connection, now)
    assert len(alerts(connection)) == 2
    found = rerun(connection, tenant, now)
    assert (found.equals_log, found.compared, len(found.deployed)) == (True, 1, 1)
    assert ["old" in one.what for one in found.not_compared] == [True]
    # Within reach it is followed to where it began.
    now += timedelta(days=20)
    for number in (10, 11, 12):
        push(connection, tenant, [evaluation(number, at=now - HOUR, template="new")], now)
    scan(connection, now, max_batches=1)
    scan(connection, now)
    found = rerun(connection, tenant, now, days=1)
    assert (found.equals_log, found.compared, len(found.not_compared)) == (True, 2, 1)


def test_a_mean_whose_window_begins_with_what_retention_has_dropped_is_not_compared(
    connection: Connection, tenant: str
) -> None:
    windowed = """update alerting.thresholds set window_n = 2, min_n = 1, max_age = '60 days', enabled = true
                  where event_type = 'drift_high'"""
    connection.execute(windowed)
    long_ago = NOW - timedelta(days=45)
    push(connection, tenant, [evaluation(1, at=long_ago, drift_score=0.9)], long_ago)
    scan(connection, long_ago)
    push(connection, tenant, [evaluation(2, drift_score=0.1)], NOW)
    scan(connection, NOW)
    reason = "retention has dropped evaluations that its windows begin with"
    assert reason not in {one.reason for one in rerun(connection, tenant, NOW).not_compared}
    month = long_ago.date().replace(day=1)
    connection.execute("delete from raw.evaluations where created_at < %s", (NOW - timedelta(days=40),))
    connection.execute("insert into raw.dropped_months (month, evaluation_count) values (%s, 1)", (month,))
    found = rerun(connection, tenant, NOW)
    assert ("drift_high", reason) in found.not_compared
    assert not [one for one in found.differences if one[1].subject.event_type == "drift_high"]
    connection.execute("update alerting.thresholds set window_n = null, min_n = null")
    assert reason not in {one.reason for one in rerun(connection, tenant, NOW).not_compared}
    assert ("drift_high", reason) in rerun(connection, tenant, NOW, change=windowed).not_compared


@pytest.mark.parametrize(
    ("cause", "reason"), [("retention", "retention has dropped 1"), ("rules", "rules were changed")]
)
def test_where_the_log_cannot_be_reproduced_the_data_that_makes_it_so_is_named(
    connection: Connection, tenant: str, cause: str, reason: str
) -> None:
    push(connection, tenant, [evaluation(1, drift_score=0.9)], NOW)
    scan(connection, NOW)
    if cause == "retention":
        connection.execute("delete from raw.evaluations")
    else:
        connection.execute("select access.record_audit(%s, 'ana', 'threshold.set', 'drift_high/*', '{}')", (tenant,))
    found = rerun(connection, tenant, NOW)
    assert [reason in one.reason for one in found.not_compared if "drift_high" in one.what] == [True]
    assert found.equals_log
