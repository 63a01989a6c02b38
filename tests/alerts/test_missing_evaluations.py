"""Evaluations that do not come: declared batches that are not whole, and senders that have become silent."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from alert_rows import NOW, evaluation, events, push, statuses

from assets.evaluations.manifests import declare_manifest
from assets.warehouse.build import run_dbt
from sensors.alerts.administration import list_alerts, resolve
from sensors.alerts.scan import scan
from sensors.alerts.thresholds import set_threshold
from storage.database import Connection, Database
from storage.tenants import create_tenant

TYPE = "evaluations_missing"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_OVERDUE = "update raw.batch_manifests set declared_at = now() - interval '2 hours' where batch_key = %s"


def told(connection: Connection, tenant: str = "acme") -> list[tuple[object, ...]]:
    """What was told of the type: status, metric, template, correlation id."""
    return [
        (body["alert"]["status"], body["metric"]["name"], body["subject"]["template"], body["correlation_id"])  # type: ignore[index]
        for body in events(connection, TYPE)
        if body["tenant"] == tenant
    ]


class _Batches:
    """Declared batches, built and scanned by the real clock, which is the database's as well."""

    def __init__(self, connection: Connection, database: Database, tenant: str) -> None:
        self.connection, self.database, self.tenant = connection, database, tenant
        self.now = datetime.now(UTC)

    def declare(self, batch_key: str, expected: int) -> None:
        declare_manifest(self.connection, self.tenant, batch_key, expected=expected)
        self.connection.execute(_OVERDUE, (batch_key,))

    def send(self, batch_key: str, numbers: Sequence[int]) -> None:
        records = [evaluation(n, record_id=f"{batch_key}{n}", evaluation_id=None, batch_key=batch_key) for n in numbers]
        push(self.connection, self.tenant, records)

    def look(self) -> None:
        run_dbt(["run", "--select", "+batch_reconciliation"], self.database)
        for _ in range(3):
            scan(self.connection, self.now)


@pytest.fixture
def batches(connection: Connection, database: Database, tenant: str) -> _Batches:
    return _Batches(connection, database, tenant)


def test_a_tenant_has_one_alert_for_its_missing_batches_until_all_of_them_are_whole(batches: _Batches) -> None:
    scan(batches.connection, batches.now)  # no mart yet
    batches.declare("b1", 4)
    batches.declare("b2", 2)
    batches.send("b1", range(3))
    batches.look()
    [body] = events(batches.connection, TYPE)
    assert body["subject"] == {"template": None, "extractor_vendor": None, "extractor_model": None}
    metric = body["metric"]
    assert isinstance(metric, dict)
    assert (metric["name"], metric["value"], metric["threshold"], metric["evaluation_count"]) == (
        *("missing_share", 1.0, 0.0, 6),
    )
    assert body["correlation_id"] == "b2", "the worst one"
    batches.look()
    batches.send("b2", range(2))
    batches.look()
    assert statuses(batches.connection, TYPE) == ["firing"], "of b1 one is missing still"
    batches.send("b1", range(4))
    batches.look()
    assert statuses(batches.connection, TYPE) == ["firing", "resolved"]


def test_a_tolerated_share_raises_nothing_and_what_is_too_old_ends_the_alert(batches: _Batches) -> None:
    set_threshold(batches.connection, batches.tenant, TYPE, 0.25)
    batches.declare("b1", 4)
    batches.send("b1", range(3))
    batches.look()
    assert events(batches.connection, TYPE) == []
    set_threshold(batches.connection, batches.tenant, TYPE, 0.2)
    batches.look()
    assert statuses(batches.connection, TYPE) == ["firing"]
    batches.now += timedelta(days=7)
    batches.look()
    assert statuses(batches.connection, TYPE) == ["firing", "resolved"]


class _Sender:
    """A tenant whose batches arrive at given times, and scans at others."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self.connection, self.tenant, self.sent = connection, tenant, 0

    def send(self, at: datetime, *templates: str) -> None:
        self.sent += 1
        records = [
            evaluation(self.sent, at=at, record_id=f"{self.tenant}{self.sent}{name}", evaluation_id=None, template=name)
            for name in templates
        ]
        push(self.connection, self.tenant, records, at)
        self.connection.execute(
            "update raw.ingest_batches set received_at = %s where batch_id = (select max(batch_id::text)::uuid"
            " from raw.ingest_batches)",
            (at,),
        )

    def has_sent(self, until: datetime, *templates: str, weeks: int = 6) -> None:
        """At each full hour, as earlier scans have noted it."""
        hours = [until - number * HOUR for number in range(1, weeks * 168)]
        for template in ("", *templates):
            with self.connection.cursor() as cursor:
                cursor.executemany(
                    "insert into alerting.arrivals (tenant_id, template, hour) values (%s, %s, %s)",
                    [(self.tenant, template, hour) for hour in hours],
                )
        self.send(until, *templates)

    def watch(self, begin: datetime, hours: int) -> None:
        """Scan every ten minutes."""
        for minutes in range(0, hours * 60, 10):
            scan(self.connection, begin + timedelta(minutes=minutes))


@pytest.fixture
def sender(connection: Connection, tenant: str) -> _Sender:
    return _Sender(connection, tenant)


def test_a_tenant_that_always_sends_is_missed_by_the_clock_alone_and_the_alert_goes_when_records_come(
    sender: _Sender,
) -> None:
    sender.has_sent(NOW, "invoice")
    sender.watch(NOW, 4)
    assert events(sender.connection, TYPE) == []
    sender.watch(NOW + 4 * HOUR, 20)
    assert told(sender.connection) == [("firing", "silent_hours", None, None)], "not its template as well"
    [body] = events(sender.connection, TYPE)
    assert body["metric"] == {
        "name": "silent_hours",
        "value": 4.0,
        "threshold": 4.0,
        "window_start": "2026-05-10T12:00:00Z",
        "window_end": "2026-05-10T16:00:00Z",
        "evaluation_count": 0,
    }
    sender.send(NOW + DAY + timedelta(minutes=3), "invoice")
    sender.watch(NOW + DAY + timedelta(minutes=5), 2)
    assert statuses(sender.connection, TYPE) == ["firing", "resolved"]
    sender.watch(NOW + DAY + 2 * HOUR, 8)
    assert statuses(sender.connection, TYPE) == ["firing", "resolved", "firing"]


def test_a_template_that_stays_out_while_its_tenant_goes_on_sending_is_missed(sender: _Sender) -> None:
    sender.has_sent(NOW, "invoice", "receipt")
    for hour in range(1, 10):
        sender.send(NOW + hour * HOUR, "receipt")
        sender.watch(NOW + hour * HOUR, 1)
    assert told(sender.connection) == [("firing", "silent_hours", "invoice", None)]
    sender.send(NOW + 10 * HOUR, "receipt", "invoice")
    sender.watch(NOW + 10 * HOUR, 1)
    assert statuses(sender.connection, TYPE) == ["firing", "resolved"]


def test_while_tidemark_itself_is_away_nobody_is_silent(sender: _Sender) -> None:
    sender.has_sent(NOW, "invoice")
    sender.watch(NOW, 2)
    sender.watch(NOW + 30 * HOUR, 2)
    assert events(sender.connection, TYPE) == []
    sender.watch(NOW + 32 * HOUR, 1)
    assert statuses(sender.connection, TYPE) == ["firing"]


def test_an_alert_resolved_by_hand_stays_so_and_who_is_gone_for_long_or_has_no_past_is_not_missed(
    sender: _Sender,
) -> None:
    connection = sender.connection
    create_tenant(connection, "young")
    young = _Sender(connection, "young")
    young.has_sent(NOW, "invoice", weeks=3)
    sender.has_sent(NOW, "invoice")
    sender.watch(NOW, 6)
    [alert] = list_alerts(connection, "acme", status="firing")
    assert told(connection, "young") == []
    resolve(connection, "acme", alert["alert_id"], now=NOW + 6 * HOUR)  # type: ignore[arg-type]
    sender.watch(NOW + 6 * HOUR, 2)
    assert statuses(connection, TYPE) == ["firing", "resolved"]
    create_tenant(connection, "gone")
    _Sender(connection, "gone").has_sent(NOW - 8 * DAY, "invoice")
    scan(connection, NOW + 8 * HOUR)
    scan(connection, NOW + 8 * HOUR)
    assert told(connection, "gone") == []


def test_silence_and_missing_batches_are_two_alerts_of_one_tenant(batches: _Batches) -> None:
    batches.declare("b1", 1)
    batches.look()
    batches.connection.execute(
        "insert into alerting.rhythms (tenant_id, template, last_arrived_at, silent_from) values (%s, '', %s, %s)",
        (batches.tenant, batches.now - 5 * HOUR, batches.now - HOUR),
    )
    batches.look()
    assert [row[:2] for row in told(batches.connection)] == [("firing", "missing_share"), ("firing", "silent_hours")]
    batches.send("b1", range(1))
    batches.look()
    assert [row[:2] for row in told(batches.connection)][2:] == [
        *[("resolved", "missing_share"), ("resolved", "silent_hours")],
    ]
