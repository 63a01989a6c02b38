"""The life of an alert as a property: whatever comes, in whatever batches it comes."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from alert_rows import NOW, alerts, evaluation, events, push
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensors.alerts.scan import scan
from sensors.alerts.states import Alert, Observation, Subject, Transition, advance
from storage.database import Connection

SUBJECT = Subject("acme", "drift_high", "drift_score", "invoice", "vendor-a", "model-1")
START = datetime(2026, 5, 1, tzinfo=UTC)


def observation(second: int, breach: bool, clear_n: int) -> Observation:
    at = START + timedelta(seconds=second)
    value = 0.9 if breach else 0.1
    return Observation(
        SUBJECT,
        "evaluation",
        value,
        0.3,
        breach,
        "warning",
        clear_n,
        at,
        at,
        evaluation_id=UUID(int=second),
    )


def follow(seen: list[Observation]) -> tuple[Alert | None, list[Transition]]:
    alert, told = None, []
    for item in seen:
        alert, transition = advance(alert, item)
        told += [transition] if transition else []
    return alert, told


@given(breaches=st.lists(st.booleans(), max_size=60), clear_n=st.integers(1, 4))
def test_each_period_has_one_firing_and_one_resolved_exactly_where_a_plain_reading_puts_them(
    breaches: list[bool], clear_n: int
) -> None:
    expected, firing, healthy = [], False, 0
    for second, breach in enumerate(breaches):
        healthy = 0 if breach else healthy + 1
        if breach and not firing:
            expected.append(("firing", second))
            firing = True
        elif firing and healthy == clear_n:
            expected.append(("resolved", second))
            firing = False
    _, told = follow([observation(second, breach, clear_n) for second, breach in enumerate(breaches)])
    assert [(item.status, item.evaluation_id.int if item.evaluation_id else None) for item in told] == expected


@given(arrivals=st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60), clear_n=st.integers(1, 4))
def test_in_any_order_of_arrival_transitions_alternate_epochs_rise_and_time_never_runs_back(
    arrivals: list[tuple[int, bool]], clear_n: int
) -> None:
    alert, told = follow([observation(second, breach, clear_n) for second, breach in arrivals])
    assert [item.status for item in told] == [("firing", "resolved")[number % 2] for number in range(len(told))]
    assert [item.alert.epoch for item in told] == [number // 2 + 1 for number in range(len(told))]
    assert all(earlier.alert.window_end <= later.alert.window_end for earlier, later in pairwise(told))
    assert (alert is None) == (not any(breach for _, breach in arrivals))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scores=st.lists(st.sampled_from([0.1, 0.3, 0.4, None]), min_size=1, max_size=30),
    ties=st.booleans(),
    cuts=st.lists(st.integers(1, 29), max_size=8),
    scan_each=st.booleans(),
)
def test_however_the_same_rows_are_split_into_batches_and_scans_the_alerts_and_events_are_the_same(
    connection: Connection, tenant: str, scores: list[float | None], ties: bool, cuts: list[int], scan_each: bool
) -> None:
    records = [
        evaluation(number, at=NOW - timedelta(minutes=60 - number // (3 if ties else 1)), drift_score=score)
        for number, score in enumerate(scores)
    ]
    whole = _replay(connection, tenant, [records], scan_each=True)
    bounds = sorted({0, len(records), *(cut for cut in cuts if cut < len(records))})
    split = _replay(connection, tenant, [records[a:b] for a, b in pairwise(bounds)], scan_each=scan_each)
    assert split == whole


def _replay(
    connection: Connection, tenant: str, batches: list[list[object]], *, scan_each: bool
) -> tuple[list[tuple[object, ...]], list[object]]:
    connection.execute(
        """truncate raw.evaluations, raw.evaluation_keys, raw.ingest_batches, raw.feedback, access.templates,
               alerting.alerts, alerting.events, alerting.webhook_deliveries, alerting.delivery_attempts cascade"""
    )
    for batch in batches:
        push(connection, tenant, batch)  # type: ignore[arg-type]
        if scan_each:
            scan(connection, NOW)
    scan(connection, NOW)
    keys = connection.execute("select dedupe_key from alerting.events where event_type = 'drift_high' order by seq")
    told = [
        (body["alert"]["status"], body["metric"], body["evaluation_id"]) for body in events(connection, "drift_high")
    ]  # type: ignore[index]
    return alerts(connection), [keys.fetchall(), told]
