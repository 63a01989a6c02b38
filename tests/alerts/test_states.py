"""The life of an alert as a property: whatever comes, in whatever batches it comes."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from alert_rows import NOW, alerts, evaluation, events, push
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensors.alerts.judging import judge
from sensors.alerts.scan import scan
from sensors.alerts.states import Alert, Observation, Subject, Transition, advance, is_material
from sensors.alerts.thresholds import set_threshold
from storage.database import Connection

SUBJECT = Subject("acme", "drift_high", "drift_score", "invoice", "vendor-a", "model-1")
START = datetime(2026, 5, 1, tzinfo=UTC)


def observation(second: int, verdict: str, clear_n: int = 1, for_n: int = 1) -> Observation:
    """An evaluation: `x` a breach, `.` within bounds, `~` between the bound and the clear value."""
    at = START + timedelta(seconds=second)
    return Observation(
        SUBJECT,
        "evaluation",
        {"x": 0.9, "~": 0.25, ".": 0.1}[verdict],
        0.3,
        verdict == "x",
        "warning",
        clear_n,
        at,
        at,
        evaluation_id=UUID(int=second),
        between=verdict == "~",
        for_n=for_n,
    )


def follow(seen: list[Observation]) -> tuple[Alert | None, list[Transition]]:
    alert, told = None, []
    for item in seen:
        alert, transition = advance(alert, item)
        told += [transition] if transition else []
    return alert, told


VERDICTS = st.sampled_from("x.~")


@given(verdicts=st.lists(VERDICTS, max_size=60), clear_n=st.integers(1, 4), for_n=st.integers(1, 4))
def test_each_period_has_one_firing_and_one_resolved_exactly_where_a_plain_reading_puts_them(
    verdicts: list[str], clear_n: int, for_n: int
) -> None:
    expected, firing, broken, healthy = [], False, 0, 0
    for second, verdict in enumerate(verdicts):
        broken = broken + 1 if verdict == "x" else 0
        healthy = healthy + 1 if verdict == "." else 0
        if not firing and broken >= for_n:
            expected.append(("firing", second))
            firing, healthy = True, 0
        elif firing and healthy == clear_n:
            expected.append(("resolved", second))
            firing, broken = False, 0
    alert, told = follow([observation(second, verdict, clear_n, for_n) for second, verdict in enumerate(verdicts)])
    assert [(item.status, item.evaluation_id.int if item.evaluation_id else None) for item in told] == expected
    waits = not firing and 0 < broken < for_n
    assert (alert is not None and alert.status == "pending") == waits


@given(verdicts=st.lists(st.sampled_from("x~"), max_size=60), clear_n=st.integers(1, 4))
def test_a_metric_that_flaps_without_reaching_its_clear_value_is_told_once(verdicts: list[str], clear_n: int) -> None:
    _, told = follow([observation(second, verdict, clear_n) for second, verdict in enumerate(verdicts)])
    assert [item.status for item in told] == ["firing"] * ("x" in verdicts)


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 30), VERDICTS), max_size=60),
    clear_n=st.integers(1, 4),
    for_n=st.integers(1, 3),
)
def test_in_any_order_of_arrival_transitions_alternate_epochs_rise_and_time_never_runs_back(
    arrivals: list[tuple[int, str]], clear_n: int, for_n: int
) -> None:
    alert, told = follow([observation(second, verdict, clear_n, for_n) for second, verdict in arrivals])
    assert [item.status for item in told] == [("firing", "resolved")[number % 2] for number in range(len(told))]
    assert [item.alert.epoch for item in told] == [number // 2 + 1 for number in range(len(told))]
    assert all(earlier.alert.window_end <= later.alert.window_end for earlier, later in pairwise(told))
    assert (alert is None) == (not any(verdict == "x" for _, verdict in arrivals))


def days(values: list[float], for_n: int, clear_n: int) -> list[Observation]:
    """Findings of days in a row, as one scan reads them: above 0.3 is a breach."""
    subject = Subject("acme", "drift_anomaly", "drift_score", "invoice")
    starts = [START + timedelta(days=number) for number in range(len(values))]
    return [
        Observation(
            *(subject, "finding", value, 0.3, value > 0.3, "warning", clear_n, start, start + timedelta(days=1)),
            for_n=for_n,
            rule="0",
        )
        for start, value in zip(starts, values, strict=True)
    ]


class Scans:
    """Scans of one subject's findings, with alerts kept as the tables keep them."""

    def __init__(self) -> None:
        self.alerts: dict[int, Alert] = {}

    def scan(self, seen: list[Observation]) -> list[Transition]:
        newest = {alert.subject: alert for _, alert in sorted(self.alerts.items())}
        told = {
            (alert.subject, alert.told_start, alert.told_end): alert
            for _, alert in sorted(self.alerts.items())
            if alert.told_start and alert.told_end and not alert.is_retracted
        }
        changed, transitions = judge(newest, told, seen, lambda *_: None)
        self.alerts |= {epoch: alert for (_, epoch), alert in changed.items()}
        return transitions


SCORES = st.sampled_from([0.1, 0.2, 0.31, 0.4, 0.41, 0.9])


@given(
    versions=st.lists(st.lists(SCORES, min_size=9, max_size=9), min_size=2, max_size=3),
    for_n=st.integers(1, 3),
    clear_n=st.integers(1, 3),
)
def test_findings_read_again_tell_nothing_and_restated_ones_amend_or_retract_what_was_told_of_that_very_day(
    versions: list[list[float]], for_n: int, clear_n: int
) -> None:
    scans = Scans()
    told_of: dict[tuple[int, datetime], float] = {}  # by epoch and day: the value that was told last
    for values in versions:
        seen = days(values, for_n, clear_n)
        today = {item.starts: item.value for item in seen}
        told = scans.scan(seen)
        assert [scans.scan(seen) for _ in range(3)] == [[], [], []], "a build, made again and again"
        said = {(item.alert.epoch, item.status) for item in told}
        for (epoch, day), before in list(told_of.items()):
            if today[day] <= 0.3:
                assert (epoch, "retracted") in said
                del told_of[epoch, day]
            else:
                assert ((epoch, "amended") in said) == is_material(before, today[day])
        for item in told:
            if item.status in ("firing", "amended"):
                assert item.alert.told_start is not None
                told_of[item.alert.epoch, item.alert.told_start] = item.value
    assert len([alert for alert in scans.alerts.values() if alert.is_open]) <= 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scores=st.lists(st.sampled_from([0.1, 0.3, 0.4, None]), min_size=1, max_size=30),
    for_n=st.integers(1, 3),
    clear_value=st.sampled_from([0.3, 0.2]),
    ties=st.booleans(),
    cuts=st.lists(st.integers(1, 29), max_size=8),
    scan_each=st.booleans(),
)
def test_however_the_same_rows_are_split_into_batches_and_scans_the_alerts_and_events_are_the_same(
    connection: Connection,
    tenant: str,
    scores: list[float | None],
    for_n: int,
    clear_value: float,
    ties: bool,
    cuts: list[int],
    scan_each: bool,
) -> None:
    set_threshold(connection, tenant, "drift_high", for_n=for_n, clear_value=clear_value)
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
