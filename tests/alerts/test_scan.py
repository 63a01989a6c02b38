"""What the scan promises, on real PostgreSQL."""

import json
import threading
from datetime import timedelta

import pytest
from alert_rows import NOW, alerts, evaluation, events, push, statuses
from psycopg import pq

from sensors.alerts.scan import scan
from sensors.alerts.thresholds import set_threshold, unset_threshold
from sensors.backlog import read_backlog
from storage.database import Connection, Database
from storage.tenants import create_tenant

HOOK = """insert into alerting.webhooks (tenant_id, url, sealed_url, event_types, status)
          values (%s, 'https://example.com/…', '', %s, %s) returning webhook_id"""


def test_a_breach_becomes_an_alert_an_event_and_the_deliveries_that_were_asked_for(
    connection: Connection, tenant: str
) -> None:
    create_tenant(connection, "other")
    for owner, types, status in [
        (tenant, [], "active"),
        (tenant, ["drift_high"], "active"),
        (tenant, ["drift_high"], "paused"),
        (tenant, ["reliability_low"], "active"),
        (tenant, [], "deleted"),
        (tenant, [], "disabled"),
        ("other", [], "active"),
    ]:
        connection.execute(HOOK, (owner, types, status))
    push(connection, tenant, [evaluation(1, drift_score=0.4, correlation_id="job-7")])
    result = scan(connection, NOW)
    assert (result.firing, result.resolved, result.events) == (2, 0, 2)
    wanted = connection.execute(
        """select status, event_types from alerting.webhook_deliveries join alerting.webhooks using (webhook_id)
           join alerting.events using (event_id) where event_type = 'drift_high' order by 1, 2"""
    ).fetchall()
    assert wanted == [("active", []), ("active", ["drift_high"]), ("paused", ["drift_high"])]


def test_the_body_has_the_fields_of_the_interface_as_sorted_compact_utf8_bytes(
    connection: Connection, tenant: str
) -> None:
    push(connection, tenant, [evaluation(1, template="Büro", drift_score=0.4, correlation_id="job-7")])
    scan(connection, NOW)
    event_id, seq, alert_id, raw = (
        connection.execute(
            "select event_id, seq, alert_id, body from alerting.events where event_type = 'drift_high'"
        ).fetchone()
        or (None,) * 4
    )
    at = "2026-05-10T11:00:01Z"
    expected = {
        "id": str(event_id),
        "type": "drift_high",
        "version": 1,
        "tenant": "acme",
        "occurred_at": "2026-05-10T12:00:00Z",
        "seq": seq,
        "alert": {"id": str(alert_id), "status": "firing", "severity": "warning", "started_at": at},
        "subject": {"template": "Büro", "extractor_vendor": "vendor-a", "extractor_model": "model-1"},
        "metric": {
            "name": "drift_score",
            "value": 0.4,
            "threshold": 0.3,
            "window_start": at,
            "window_end": at,
            "evaluation_count": 1,
        },
        "evaluation_id": "00000000-0000-0000-0000-000000000001",
        "correlation_id": "job-7",
    }
    assert json.loads(raw) == expected
    assert raw == json.dumps(expected, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("field", "bound", "beyond", "event_type"),
    [("drift_score", 0.30, 0.3000001, "drift_high"), ("reliability_score", 0.80, 0.7999999, "reliability_low")],
)
def test_a_value_equal_to_its_bound_is_within_bounds(
    connection: Connection, tenant: str, field: str, bound: float, beyond: float, event_type: str
) -> None:
    push(connection, tenant, [evaluation(1, **{field: bound})])
    scan(connection, NOW)
    assert statuses(connection, event_type) == []
    push(connection, tenant, [evaluation(2, **{field: beyond})])
    scan(connection, NOW)
    assert statuses(connection, event_type) == ["firing"]


def test_a_permanent_breach_is_told_once_and_three_healthy_evaluations_end_it(
    connection: Connection, tenant: str
) -> None:
    scores = [0.5, 0.6, 0.1, 0.1, 0.7, 0.1, 0.1, 0.1, 0.1, 0.9]
    for number, score in enumerate(scores, start=1):
        push(connection, tenant, [evaluation(number, drift_score=score)])
        scan(connection, NOW)
    assert statuses(connection, "drift_high") == ["firing", "resolved", "firing"]
    told = [(body["alert"]["id"], body["metric"]["value"]) for body in events(connection, "drift_high")]  # type: ignore[index]
    assert told[0][0] == told[1][0] != told[2][0]
    assert [value for _, value in told] == [0.5, 0.1, 0.9]
    first, second = [row for row in alerts(connection) if row[1] == "drift_high"]
    assert first[5:10] == (1, "resolved", 0.7, 3, 8)
    assert second[5:10] == (2, "firing", 0.9, 1, 1)


def test_rows_without_the_metric_are_no_observations_of_its_rule(connection: Connection, tenant: str) -> None:
    push(connection, tenant, [evaluation(1, drift_score=0.9, decision="review")])
    # Undecided and without drift: neither may count towards the end of drift_high or decision_review.
    push(connection, tenant, [evaluation(number, drift_score=None) for number in (2, 3, 4)])
    scan(connection, NOW)
    assert statuses(connection, "drift_high") == ["firing"]
    assert statuses(connection, "decision_review") == ["firing"]
    push(connection, tenant, [evaluation(number, drift_score=None, decision="accept") for number in (5, 6, 7)])
    scan(connection, NOW)
    assert statuses(connection, "drift_high") == ["firing"]
    assert statuses(connection, "decision_review") == ["firing", "resolved"]


def test_each_extractor_and_each_tenant_is_a_subject_of_its_own(connection: Connection, tenant: str) -> None:
    create_tenant(connection, "other")
    for owner in (tenant, "other"):
        push(connection, owner, [evaluation(1, drift_score=0.9), evaluation(2, drift_score=0.9, extractor_model="m2")])
    scan(connection, NOW)
    subjects = [(row[0], row[4]) for row in alerts(connection) if row[1] == "drift_high"]
    assert subjects == [("acme", "m2"), ("acme", "model-1"), ("other", "m2"), ("other", "model-1")]


def test_the_most_specific_threshold_wins_and_unsetting_it_gives_way(connection: Connection, tenant: str) -> None:
    set_threshold(connection, tenant, "drift_high", 0.5)
    set_threshold(connection, tenant, "drift_high", 0.7, template="invoice")
    templates = {"invoice": 0.6, "letter": 0.6, "receipt": 0.4}
    push(connection, tenant, [evaluation(n, template=t, drift_score=s) for n, (t, s) in enumerate(templates.items())])
    scan(connection, NOW)
    assert [body["subject"]["template"] for body in events(connection, "drift_high")] == ["letter"]  # type: ignore[index]
    unset_threshold(connection, tenant, "drift_high", "invoice")
    push(connection, tenant, [evaluation(9, drift_score=0.6)])
    scan(connection, NOW)
    assert [body["metric"]["threshold"] for body in events(connection, "drift_high")] == [0.5, 0.5]  # type: ignore[index]


def test_a_disabled_rule_is_silent_for_its_tenant_alone(connection: Connection, tenant: str) -> None:
    create_tenant(connection, "other")
    set_threshold(connection, tenant, "drift_high", enabled=False)
    for owner in (tenant, "other"):
        push(connection, owner, [evaluation(1, drift_score=0.9)])
    scan(connection, NOW)
    assert [body["tenant"] for body in events(connection, "drift_high")] == ["other"]


def test_data_older_than_the_maximum_age_changes_history_silently(connection: Connection, tenant: str) -> None:
    old = NOW - timedelta(days=7, seconds=1)
    push(connection, tenant, [evaluation(n, at=old - timedelta(days=n), drift_score=0.9) for n in range(90)])
    result = scan(connection, NOW)
    assert result.batches == 1
    assert events(connection) == []
    # Known from the backfill only: the template is no news later either, its drift is.
    push(connection, tenant, [evaluation(100, drift_score=0.9)])
    scan(connection, NOW)
    assert [body["type"] for body in events(connection)] == ["drift_high"]


def test_a_new_template_is_told_once_and_is_over_at_once(connection: Connection, tenant: str) -> None:
    push(connection, tenant, [evaluation(1), evaluation(2), evaluation(3, extractor_model="m2")])
    push(connection, tenant, [evaluation(4)])
    scan(connection, NOW)
    push(connection, tenant, [evaluation(5)])
    scan(connection, NOW)
    (told,) = events(connection)
    assert (told["type"], told["alert"]["status"]) == ("template_new", "firing")  # type: ignore[index]
    assert told["subject"] == {"template": "invoice", "extractor_vendor": None, "extractor_model": None}
    assert told["evaluation_id"] == "00000000-0000-0000-0000-000000000001"
    assert [row[6] for row in alerts(connection)] == ["resolved"]


def test_late_evaluations_neither_resolve_a_firing_alert_nor_reopen_a_resolved_one(
    connection: Connection, tenant: str
) -> None:
    push(connection, tenant, [evaluation(50, drift_score=0.9)])
    scan(connection, NOW)
    push(connection, tenant, [evaluation(number) for number in (10, 11, 12, 13)])
    scan(connection, NOW)
    assert statuses(connection, "drift_high") == ["firing"]
    push(connection, tenant, [evaluation(number) for number in (51, 52, 53)])
    scan(connection, NOW)
    push(connection, tenant, [evaluation(number, drift_score=0.9) for number in (20, 49)])
    scan(connection, NOW)
    assert statuses(connection, "drift_high") == ["firing", "resolved"]


def test_landing_the_same_again_and_scanning_again_tells_nobody(connection: Connection, tenant: str) -> None:
    records = [evaluation(number, drift_score=0.9 if number % 5 == 0 else 0.1) for number in range(40)]
    push(connection, tenant, records)
    scan(connection, NOW)
    before = (alerts(connection), events(connection))
    assert len(before[1]) > 3
    for _ in range(3):
        push(connection, tenant, records)
        scan(connection, NOW)
    # Even a position set back by hand: the alerts know what they have judged.
    connection.execute("update alerting.positions set next_xact_id = '0'")
    scan(connection, NOW)
    assert [body["seq"] for body in events(connection)] == [body["seq"] for body in before[1]]
    assert [row[:7] for row in alerts(connection)] == [row[:7] for row in before[0]]


def test_a_batch_whose_transaction_commits_late_is_not_skipped(
    connection: Connection, database: Database, tenant: str
) -> None:
    push(connection, tenant, [evaluation(0)])  # so that the month is there and its creation locks nobody out
    scan(connection, NOW)
    with database.connect(autocommit=True) as slow, slow.transaction():
        push(slow, tenant, [evaluation(1, drift_score=0.9)])  # a savepoint inside: not committed yet
        push(connection, tenant, [evaluation(2, drift_score=0.9, template="letter")])
        held = scan(connection, NOW)
        assert (held.batches, held.held_back) == (0, 1)
    result = scan(connection, NOW)
    assert (result.batches, result.held_back) == (2, 0)
    assert {row[2] for row in alerts(connection) if row[1] == "drift_high"} == {"invoice", "letter"}


def test_two_scanners_at_once_tell_a_breach_once(connection: Connection, database: Database, tenant: str) -> None:
    scan(connection, NOW)  # the position exists: its first insertion would keep the scanners apart by itself
    push(connection, tenant, [evaluation(number, drift_score=0.9, template=f"t{number}") for number in range(20)])
    barrier = threading.Barrier(4)
    firing: list[int] = []

    def scanner() -> None:
        with database.connect(autocommit=True) as own:
            barrier.wait()
            firing.append(scan(own, NOW).firing)

    threads = [threading.Thread(target=scanner) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(firing) == [0, 0, 0, 40]
    assert len(events(connection)) == 40


def test_a_scan_stops_at_its_limit_and_the_next_one_goes_on(connection: Connection, tenant: str) -> None:
    for number in range(7):
        push(connection, tenant, [evaluation(number, drift_score=0.9, template=f"t{number}")])
    found = [scan(connection, NOW, max_batches=3) for _ in range(4)]
    assert [(result.batches, result.more) for result in found] == [(3, True), (3, True), (1, False), (0, False)]
    assert len(events(connection, "drift_high")) == 7
    for number in range(10, 15):
        push(connection, tenant, [evaluation(number), evaluation(number + 100)])
    found = [scan(connection, NOW, max_records=3) for _ in range(3)]
    assert [(result.batches, result.more) for result in found] == [(2, True), (2, True), (1, False)]


def test_alerts_events_deliveries_and_position_stand_or_fall_together(
    connection: Connection, database: Database, tenant: str
) -> None:
    connection.execute(HOOK, (tenant, [], "active"))
    push(connection, tenant, [evaluation(1, drift_score=0.9)])
    scan(connection, NOW)
    counts = _counts(connection)
    push(connection, tenant, [evaluation(2, drift_score=0.9, extractor_model="m2")])
    with database.connect() as doomed:
        assert scan(doomed, NOW).firing == 1
        assert doomed.info.transaction_status == pq.TransactionStatus.IDLE  # committed by itself
    assert _counts(connection) == tuple(count + 1 for count in counts)
    push(connection, tenant, [evaluation(3, drift_score=0.9, extractor_model="m3")])
    with database.connect() as doomed:
        doomed.execute("select 1")
        assert scan(doomed, NOW).firing == 1
        doomed.rollback()
    assert _counts(connection) == tuple(count + 1 for count in counts)
    assert scan(connection, NOW).firing == 1
    assert _counts(connection) == tuple(count + 2 for count in counts)


def test_healthy_evaluations_never_leave_the_database(connection: Connection, tenant: str) -> None:
    push(connection, tenant, [evaluation(number) for number in range(500)])
    assert scan(connection, NOW).observations == 1  # the new template
    push(connection, tenant, [evaluation(number) for number in range(500, 1000)])
    assert scan(connection, NOW).observations == 0


def _counts(connection: Connection) -> tuple[int, ...]:
    return (
        connection.execute(
            """select (select count(*) from alerting.alerts), (select count(*) from alerting.events),
                  (select count(*) from alerting.webhook_deliveries)"""
        ).fetchone()
        or ()
    )


def test_after_a_restore_to_a_server_whose_numbers_are_smaller_what_lands_is_judged_and_old_news_is_not_told_again(
    connection: Connection, tenant: str
) -> None:
    push(connection, tenant, [evaluation(1, drift_score=0.9)])
    scan(connection, NOW)
    later = NOW + timedelta(minutes=1)
    push(connection, tenant, [evaluation(2, template="left", drift_score=0.9)], later)
    # As the dump has it: judged up to a number, then one batch that was not, and far from what this server counts.
    connection.execute(
        """update raw.ingest_batches
           set xact_id = case when received_at < %s then '9000000000'::xid8 else '9000000007' end""",
        (later,),
    )
    connection.execute("update alerting.positions set next_xact_id = '9000000003'")
    push(connection, tenant, [evaluation(3, template="here", drift_score=0.9)], later)
    told = [scan(connection, later), scan(connection, later)]
    fired = sorted(change.alert.subject.template for one in told for change in one.transitions)
    assert fired == ["here", "here", "left", "left"]
    push(connection, tenant, [evaluation(4, template="on", drift_score=0.9)], later)
    assert (scan(connection, later).firing, scan(connection, later).firing) == (2, 0)
    assert read_backlog(connection).batches == 0
    assert scan(connection, later).held_back == 0
