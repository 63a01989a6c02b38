"""Means of moving windows: the same however data is cut, exact, restated by what comes late, and found again by SQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any, cast

import pytest
from alert_rows import NOW, alerts, evaluation, events, push
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensors.alerts.administration import list_alerts
from sensors.alerts.scan import scan
from sensors.alerts.thresholds import set_threshold
from storage.database import Connection
from storage.errors import UsageError

TYPE = "drift_high"
MINUTE = timedelta(minutes=1)
SLOW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TABLES = """raw.evaluations, raw.evaluation_keys, raw.ingest_batches, access.templates, alerting.alerts,
    alerting.events, alerting.positions, alerting.windows"""

SCORE = st.sampled_from([0.1, 0.2, 0.3, 0.3000000001, 0.1 + 0.2, 1 / 3, 0.4, 0.9, 1e-12, None])
RULE = st.fixed_dictionaries(
    {
        "window_n": st.sampled_from([None, 2, 3, 5]),
        "window_span": st.sampled_from([None, 3 * MINUTE, 10 * MINUTE]),
        "min_n": st.integers(1, 2),
        "clear_value": st.sampled_from([0.3, 0.25]),
        "clear_n": st.integers(1, 3),
        "for_n": st.integers(1, 2),
    }
).filter(lambda rule: rule["window_n"] or rule["window_span"])


def records(rows: Sequence[tuple[int, float | None]], first: int = 0) -> list[Mapping[str, object]]:
    """Evaluations so many minutes after an hour before NOW."""
    return [
        evaluation(first + number, at=NOW - 60 * MINUTE + minute * MINUTE, drift_score=score)
        for number, (minute, score) in enumerate(rows)
    ]


def told(connection: Connection) -> list[tuple[object, ...]]:
    names = ("value", "evaluation_count", "window_start", "window_end")
    bodies = cast("list[dict[str, Any]]", events(connection, TYPE))
    return [(body["alert"]["status"], *(body["metric"][name] for name in names)) for body in bodies]


def kept(connection: Connection) -> list[object]:
    return connection.execute(
        """select template, extractor_model, evaluation_count, total, newest_at, newest_id,
               array_agg((window_values.created_at, window_values.evaluation_id, value)::text
                         order by window_values.created_at, window_values.evaluation_id)
           from alerting.windows inner join alerting.window_values using (window_id)
           group by window_id order by 1, 2"""
    ).fetchall()


def mean(values: Sequence[float]) -> float:
    """To a billionth, halves up, of values to a billionth: in fractions of what was written, not of binary floats."""
    exact = sum(Fraction(round(Fraction(repr(value)) * 10**9)) for value in values) / len(values)
    return float(Fraction(int(exact + Fraction(1, 2)), 10**9))


def plain(rows: Sequence[tuple[datetime, float]], rule: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """What is to be told of rows in their order: the whole history read once, each window by itself."""
    found: list[tuple[object, ...]] = []
    firing, broken, healthy = False, 0, 0
    for place, (newest, _) in enumerate(rows):
        window = [row for row in rows[: place + 1] if row[0] >= newest - (rule["window_span"] or timedelta(days=7))]
        window = window[-(rule["window_n"] or len(window)) :]
        if len(window) < rule["min_n"]:
            continue
        value = mean([value for _, value in window])
        is_healthy = value <= rule["clear_value"]
        broken = broken + 1 if value > 0.3 else 0
        healthy = healthy + 1 if is_healthy else 0
        shown = (value, len(window), *(f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (window[0][0], newest)))
        if not firing and broken >= rule["for_n"]:
            found.append(("firing", *shown))
            firing, healthy = True, 0
        elif firing and is_healthy and healthy >= rule["clear_n"]:
            found.append(("resolved", *shown))
            firing, broken = False, 0
    return found


@SLOW
@given(
    rows=st.lists(st.tuples(st.integers(0, 50), SCORE), min_size=1, max_size=30),
    rule=RULE,
    cuts=st.lists(st.integers(1, 29), max_size=8),
    scan_each=st.booleans(),
)
def test_however_rows_are_cut_into_batches_and_scans_what_is_told_is_one_plain_reading_of_their_history(
    connection: Connection,
    tenant: str,
    rows: list[tuple[int, float | None]],
    rule: dict[str, Any],
    cuts: list[int],
    scan_each: bool,
) -> None:
    connection.execute(f"truncate {TABLES} cascade")
    connection.execute("delete from alerting.thresholds where tenant_id is not null")
    set_threshold(connection, tenant, TYPE, **{name: value or "none" for name, value in rule.items()})
    sent = records(sorted(rows, key=lambda row: row[0]))
    bounds = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    for start, end in pairwise(bounds):
        push(connection, tenant, sent[start:end])
        if scan_each:
            scan(connection, NOW)
    scan(connection, NOW)
    history = [
        (datetime.fromisoformat(str(one["created_at"])), cast("float", one["drift_score"]))
        for one in sent
        if "drift_score" in one
    ]
    assert told(connection) == plain(history, rule)


# The last brings a score: a window that was forgotten is made anew with the next value, not before.
BATCHES = st.lists(
    st.lists(st.tuples(st.integers(0, 12), SCORE), min_size=1, max_size=5), min_size=2, max_size=8
).filter(lambda batches: any(score is not None for _, score in batches[-1]))


@SLOW
@given(batches=BATCHES, rule=RULE, scanned=st.sets(st.integers(0, 7)))
def test_whatever_comes_late_the_scans_don_t_matter_windows_are_as_if_made_anew_and_sql_finds_each_mean(
    connection: Connection,
    tenant: str,
    batches: list[list[tuple[int, float | None]]],
    rule: dict[str, Any],
    scanned: set[int],
) -> None:
    connection.execute("delete from alerting.thresholds where tenant_id is not null")
    set_threshold(connection, tenant, TYPE, **{name: value or "none" for name, value in rule.items()})
    outcomes = []
    for when, forgets in ((scanned, False), (range(8), False), ((), False), (range(8), True)):
        connection.execute(f"truncate {TABLES} cascade")
        for number, rows in enumerate(batches):
            push(connection, tenant, records(rows, number * 10))
            if number in when and number < len(batches) - 1:
                scan(connection, NOW)
        if forgets:
            connection.execute("delete from alerting.windows")
        scan(connection, NOW)
        outcomes.append((told(connection), alerts(connection), kept(connection)))
    assert outcomes[0] == outcomes[1] == outcomes[2] == outcomes[3]
    for alert in list_alerts(connection, tenant, event_type=TYPE):
        evidence = cast("dict[str, Any]", alert["evidence"])
        assert connection.execute(evidence["sql"]).fetchone() == (alert["value"], evidence["n"])
    connection.execute("update alerting.positions set next_xact_id = '0'")
    scan(connection, NOW)
    assert (told(connection), alerts(connection), kept(connection)) == outcomes[0], "what is read again moves nothing"


def send(connection: Connection, tenant: str, rows: Sequence[tuple[int, float | None]], first: int) -> None:
    push(connection, tenant, records(rows, first))
    for _ in range(2):
        scan(connection, NOW)


def test_late_data_amends_or_retracts_the_mean_that_was_told_and_a_later_one_still_out_of_bounds_fires_anew(
    connection: Connection, tenant: str
) -> None:
    set_threshold(connection, tenant, TYPE, window_n=4, clear_n=1)
    send(connection, tenant, [(1, 0.2), (5, 0.3), (10, 0.5)], 0)
    assert told(connection) == [], "three of four"
    send(connection, tenant, [(15, 0.6)], 10)
    send(connection, tenant, [(6, 0.9)], 20)
    first = "2026-05-10T11:01:00Z", "2026-05-10T11:15:00Z"
    assert told(connection) == [("firing", 0.4, 4, *first), ("amended", 0.575, 4, "2026-05-10T11:05:00Z", first[1])]
    [row] = list_alerts(connection, tenant, event_type=TYPE)
    evidence = cast("dict[str, Any]", row["evidence"])
    assert (row["value"], evidence["n"], evidence["statistic"]["worst"]) == (0.575, 4, 0.575)
    assert [one["value"] for one in evidence["contributors"]] == [0.9, 0.6, 0.5, 0.3]
    assert connection.execute(evidence["sql"]).fetchone() == (0.575, 4)
    # Two newer ones move on; then the three that came before the last of what was told turn out to have been healthy.
    send(connection, tenant, [(20, 0.9), (25, 0.9)], 30)
    send(connection, tenant, [(11, 0.1), (12, 0.1), (13, 0.1)], 40)
    restated = told(connection)[2:]
    assert restated == [
        ("retracted", 0.225, 4, "2026-05-10T11:11:00Z", "2026-05-10T11:15:00Z"),
        ("firing", 0.625, 4, "2026-05-10T11:13:00Z", "2026-05-10T11:25:00Z"),
    ]
    # What is late, but older than what a full window holds, is of no matter to it.
    send(connection, tenant, [(2, 1.0), (12, 1.0)], 50)
    assert told(connection)[4:] == []
    bodies = cast("list[dict[str, Any]]", events(connection, TYPE))
    assert {body["alert"]["id"] for body in bodies[:3]} == {str(row["alert_id"])}


def test_a_rule_that_was_changed_or_off_for_a_while_finds_the_whole_window_again(
    connection: Connection, tenant: str
) -> None:
    set_threshold(connection, tenant, TYPE, window_n=2)
    send(connection, tenant, [(1, 0.1), (2, 0.1)], 0)
    set_threshold(connection, tenant, TYPE, enabled=False)
    send(connection, tenant, [(3, 0.9), (4, 0.5)], 10)
    assert kept(connection) == [], "what lands now would be missing in it"
    set_threshold(connection, tenant, TYPE, window_n=4, enabled=True)
    send(connection, tenant, [(5, 0.1)], 20)
    assert told(connection) == [("firing", 0.4, 4, "2026-05-10T11:02:00Z", "2026-05-10T11:05:00Z")]
    # Moved by the rule alone, nothing late is in it: nobody is told that a threshold was moved.
    set_threshold(connection, tenant, TYPE, 0.5)
    send(connection, tenant, [(3, 0.1)], 30)
    assert len(told(connection)) == 1


def test_the_share_of_reviews_is_of_what_was_decided(connection: Connection, tenant: str) -> None:
    set_threshold(connection, tenant, "decision_review", 0.5, clear_value=0.4, window_n=4, template="invoice")
    decisions = ["accept", "review", None, "reject", "review", None, "review"]
    rows = [evaluation(number, drift_score=None, decision=decision) for number, decision in enumerate(decisions)]
    push(connection, tenant, rows)
    scan(connection, NOW)
    [body] = cast("list[dict[str, Any]]", events(connection, "decision_review"))
    assert (body["metric"]["value"], body["metric"]["evaluation_count"]) == (0.75, 4)
    [row] = list_alerts(connection, tenant, event_type="decision_review")
    assert connection.execute(cast("dict[str, Any]", row["evidence"])["sql"]).fetchone() == (0.75, 4)


@pytest.mark.parametrize(
    ("event_type", "rule", "message"),
    [
        ("drift_anomaly", {"window_n": 5}, "can be held against a mean: drift_high, reliability_low, decision_review"),
        (TYPE, {"window_n": 1}, "window-n must be between 2"),
        (TYPE, {"window_span": timedelta(days=8), "min_n": 3}, "at most the maximum age"),
        (TYPE, {"window_span": timedelta(hours=1)}, "min-n: say how many"),
        (TYPE, {"window_n": 5, "min_n": 6}, "min-n must be between 1 and 5"),
        (TYPE, {"min_n": 6}, "give window-n or window too"),
        ("decision_review", {"clear_value": 0.0}, "nothing between broken and kept"),
    ],
)
def test_a_window_that_can_t_be_is_refused_with_the_remedy(
    connection: Connection, tenant: str, event_type: str, rule: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        set_threshold(connection, tenant, event_type, **rule)
