"""What of the log of notifications goes, what stays, and that whatever still reads it finds what it needs."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from alert_rows import evaluation, push, statuses
from typer.testing import CliRunner

from orchestration.commands import retention
from sensors.alerts.assets import alert_log_retention
from sensors.alerts.dry_run import dry_run
from sensors.alerts.matchers import parse_matcher
from sensors.alerts.policies import set_policy
from sensors.alerts.policy import Policy
from sensors.alerts.retention import PrunedNotifications, prune_notifications
from sensors.alerts.scan import scan
from sensors.alerts.silences import create_silence
from storage.clock import Clock
from storage.database import Connection, Database
from storage.settings import Settings

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
_LOG = """
select alerts.template, alerts.epoch, notifications.transition, notifications.number, notifications.state
from alerting.notifications join alerting.alerts using (alert_id) order by 1, 2, 3, 4
"""
_RECEIVED = """
update raw.ingest_batches set received_at = %(now)s
where batch_id = (select batch_id from raw.evaluations where record_id = 'r' || %(number)s)
"""


class History:
    """Evaluations of long ago, each scanned as it lands. By the real clock: what may go is decided by the server's."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self.connection, self.tenant, self.number = connection, tenant, 0
        self.end = datetime.now(UTC).replace(microsecond=0)
        self.now = self.end - 200 * DAY

    def sends(self, template: str, *scores: float) -> None:
        for score in scores:
            self.number += 1
            self.now += timedelta(seconds=1)
            record = evaluation(self.number, at=self.now, template=template, drift_score=score)
            push(self.connection, self.tenant, [record], self.now)
            self.connection.execute(_RECEIVED, {"now": self.now, "number": self.number})
            scan(self.connection, self.now)

    def passes(self, by: timedelta) -> None:
        self.now += by
        scan(self.connection, self.now)


@pytest.fixture
def history(connection: Connection, tenant: str) -> History:
    """Of one subject three alerts that are over; one that fires on and is repeated; one that a silence keeps back."""
    connection.execute("update alerting.thresholds set enabled = event_type = 'drift_high'")
    past = History(connection, tenant)
    for _ in range(3):
        past.sends("over", 0.9, 0.1, 0.1, 0.1)
    set_policy(connection, tenant, Policy(repeat_interval=HOUR))
    past.sends("open", 0.9)
    past.passes(HOUR)
    past.passes(HOUR)
    matchers = [parse_matcher("template=silent")]
    create_silence(connection, tenant, matchers, ends_at=past.end + DAY, author="ana", now=past.now)
    set_policy(connection, tenant, Policy())
    past.sends("silent", 0.9)
    return past


def prune(connection: Connection, history: History) -> PrunedNotifications:
    return prune_notifications(connection, history.end - 180 * DAY)


def test_what_is_over_goes_and_what_waits_repeats_or_is_replayed_finds_what_it_needs(
    connection: Connection, tenant: str, history: History
) -> None:
    assert prune(connection, history) == PrunedNotifications(notifications=5, suppressions=0, groups=0)
    newest = [("over", 3, "firing", 0, "told"), ("over", 3, "resolved", 0, "told")]
    is_open = [("open", 1, "firing", 0, "told"), ("open", 1, "firing", 2, "told")]
    assert connection.execute(_LOG).fetchall() == [*is_open, *newest, ("silent", 1, "firing", 0, "held")]
    assert prune(connection, history) == PrunedNotifications(0, 0, 0)
    told = connection.execute("select detail from access.audit_log where action = 'retention.drop'").fetchall()
    assert told == [({"notifications": 5, "suppressions": 0, "groups": 0},)]

    history.now = history.end - DAY
    history.sends("over", 0.9, 0.1)
    run = dry_run(connection, tenant, days=30, now=history.now, change=lambda: None)
    assert (run.differences, run.equals_log, run.compared) == ([], True, 1)
    (fired,) = (one for one in run.deployed if one.subject.template == "over")
    assert fired.epoch == 4
    set_policy(connection, tenant, Policy(repeat_interval=HOUR))
    history.passes(HOUR)
    assert ("open", 1, "firing", 3, "told") in connection.execute(_LOG).fetchall()
    before = len(statuses(connection, "drift_high"))
    history.passes(3 * DAY)
    assert "firing" in statuses(connection, "drift_high")[before:]
    assert ("silent", 1, "firing", 0, "told") in connection.execute(_LOG).fetchall()


def test_a_suppression_window_late_data_and_the_reach_of_a_dry_run_keep_what_is_older(
    connection: Connection, tenant: str, history: History
) -> None:
    nothing = PrunedNotifications(0, 0, 0)
    set_policy(connection, tenant, Policy(suppression_window=300 * DAY))
    assert prune(connection, history).notifications == 1  # but for the repeat, which no window looks at
    set_policy(connection, tenant, Policy())
    connection.execute("update alerting.thresholds set max_age = '300 days'")
    assert prune(connection, history) == nothing
    connection.execute("update alerting.thresholds set max_age = '7 days'")
    connection.execute("update alerting.notifications set seen_at = now() - interval '61 days'")
    assert prune_notifications(connection, history.end) == nothing
    connection.execute("update alerting.notifications set seen_at = now() - interval '63 days'")
    assert prune_notifications(connection, history.end).notifications == 4


def test_what_a_silence_kept_back_is_forgotten_with_the_alert(
    connection: Connection, database: Database, history: History, settings: Settings
) -> None:
    history.sends("silent", 0.1, 0.1, 0.1)
    connection.execute("insert into alerting.notification_groups values ('acme', '{}', now() - interval '200 days')")
    run = CliRunner().invoke(retention.app, ["run", "--dry-run", "--json"], catch_exceptions=False)
    would = {"notifications": 5, "suppressions": 1, "groups": 1}
    assert json.loads(run.stdout)["alerts"] == would
    asset = alert_log_retention("nightly")
    materialized = dg.materialize([asset], resources={"database": database, "settings": settings, "clock": Clock()})
    (event,) = materialized.asset_materializations_for_node("alert_log_retention")
    assert {name: event.metadata[f"{name}_dropped"].value for name in would} == would
    assert connection.execute("select count(*) from alerting.suppressions").fetchone() == (0,)
