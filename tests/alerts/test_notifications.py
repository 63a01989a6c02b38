"""Who is told, and when: silences, inhibitions, groups, repeats and suppression windows, on real PostgreSQL."""

import multiprocessing
import os
import re
import signal
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from alert_rows import NOW, evaluation, events, push, statuses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensors.alerts.administration import acknowledge, list_alerts, list_notifications, resolve
from sensors.alerts.inhibitions import add_inhibition, remove_inhibition
from sensors.alerts.matchers import LABELS, Matcher, fit, parse_matcher
from sensors.alerts.policies import set_policy
from sensors.alerts.policy import Inhibition, Muted, Policy, Tenant
from sensors.alerts.scan import scan
from sensors.alerts.silences import create_silence, end_silence, list_silences, list_suppressed
from sensors.alerts.told import waiting
from storage.database import Connection, Database
from storage.errors import UsageError

HOUR = timedelta(hours=1)


class Sender:
    """Lands evaluations of one tenant, each a second after the one before, and scans."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self.connection, self.tenant, self.now, self.number = connection, tenant, NOW, 0

    def send(self, *records: dict[str, object]) -> None:
        rows = []
        for fields in records:
            self.number += 1
            rows.append(evaluation(self.number, **fields))
        push(self.connection, self.tenant, rows, self.now)
        scan(self.connection, self.now)

    def breaks(self, **fields: object) -> None:
        self.send({"drift_score": 0.9} | fields)

    def heals(self, **fields: object) -> None:
        self.send(fields, fields, fields)

    def later(self, by: timedelta) -> None:
        self.now += by
        scan(self.connection, self.now)

    def silence(self, *matchers: str, lasting: timedelta = HOUR) -> UUID:
        row = create_silence(
            self.connection,
            self.tenant,
            [parse_matcher(text) for text in matchers],
            ends_at=self.now + lasting,
            author="ana",
            now=self.now,
        )
        identifier: UUID = row["silence_id"]
        return identifier


@pytest.fixture
def sender(connection: Connection, tenant: str) -> Sender:
    """Without new templates' alerts, so that only what a test breaks is told."""
    connection.execute("update alerting.thresholds set enabled = false where event_type = 'template_new'")
    return Sender(connection, tenant)


def told(connection: Connection) -> list[tuple[object, ...]]:
    return [
        (body["type"], body["subject"]["template"], body["alert"]["status"])  # type: ignore[index]
        for body in events(connection)
    ]


def test_a_silenced_alert_has_its_state_but_no_event_until_the_silence_ends_and_then_one(
    connection: Connection, tenant: str, sender: Sender
) -> None:
    silence_id = sender.silence("event_type=~drift_.*", "template!=letter")
    sender.breaks()
    sender.breaks(template="letter")
    assert [row["status"] for row in list_alerts(connection, tenant)] == ["firing", "firing"]
    assert told(connection) == [("drift_high", "letter", "firing")]
    sender.later(HOUR - timedelta(seconds=1))
    (row,) = list_silences(connection, tenant, now=sender.now)
    (kept,) = list_suppressed(connection, tenant, silence_id)
    assert (row["suppressed"], kept["template"], kept["transition"], kept["state"]) == (1, "invoice", "firing", "held")
    for _ in range(3):
        sender.later(timedelta(seconds=1))
    assert told(connection)[1:] == [("drift_high", "invoice", "firing")]
    assert list_suppressed(connection, tenant, silence_id)[0]["state"] == "told"
    sender.heals()
    assert told(connection)[2:] == [("drift_high", "invoice", "resolved")]


def test_nobody_hears_of_the_end_of_what_nobody_heard_of(connection: Connection, tenant: str, sender: Sender) -> None:
    silence_id = sender.silence("template=invoice")
    sender.breaks()
    sender.heals()
    sender.breaks()
    (alert,) = list_alerts(connection, tenant, status="firing")
    assert isinstance(alert["alert_id"], UUID)
    resolve(connection, tenant, alert["alert_id"], now=sender.now)
    # News that is over as soon as it is told doesn't fire any more when the silence ends.
    connection.execute("update alerting.thresholds set enabled = true where event_type = 'template_new'")
    sender.send({"template": "new", "drift_score": None})
    sender.silence("event_type=template_new")
    sender.send({"template": "newer", "drift_score": None})
    sender.later(HOUR)
    assert told(connection) == [("template_new", "new", "firing")]
    assert {row["state"] for row in list_suppressed(connection, tenant, silence_id)} == {"dropped"}


def test_the_end_of_what_was_told_is_told_when_the_silence_is_over_also_one_that_is_ended_early(
    connection: Connection, tenant: str, sender: Sender
) -> None:
    sender.breaks()
    silence_id = sender.silence("template=invoice")
    sender.heals()
    assert statuses(connection, "drift_high") == ["firing"]
    sender.now += timedelta(seconds=1)
    end_silence(connection, tenant, silence_id, now=sender.now)
    sender.later(timedelta(seconds=1))
    sender.later(timedelta(seconds=1))
    assert statuses(connection, "drift_high") == ["firing", "resolved"]


def test_a_firing_source_inhibits_its_targets_of_equal_labels_and_never_itself(
    connection: Connection, tenant: str, sender: Sender
) -> None:
    drift = (parse_matcher("event_type=drift_high"),)
    rule = Inhibition(drift, (parse_matcher("event_type=~(reliability|decision)_.+"),), ("template",))
    rule_id = add_inhibition(connection, tenant, rule)
    with pytest.raises(UsageError, match="set already"):
        add_inhibition(connection, tenant, rule)
    add_inhibition(connection, tenant, Inhibition(drift, drift))
    sender.breaks(reliability_score=0.1)
    sender.breaks(template="letter", drift_score=0.1, reliability_score=0.1)
    assert told(connection) == [("drift_high", "invoice", "firing"), ("reliability_low", "letter", "firing")]
    alerts = {row["event_type"]: row["alert_id"] for row in list_alerts(connection, tenant, template="invoice")}
    (kept,) = list_notifications(connection, tenant, alerts["reliability_low"])  # type: ignore[arg-type]
    assert (kept["state"], kept["kept_back_by"], kept["by_id"]) == ("held", "inhibition", alerts["drift_high"])
    (said,) = list_notifications(connection, tenant, alerts["drift_high"])  # type: ignore[arg-type]
    assert (said["state"], said["told_at"], said["kept_back_by"]) == ("told", sender.now, None)
    sender.heals(reliability_score=0.1)
    assert told(connection)[2:] == [
        ("drift_high", "invoice", "resolved"),
        ("reliability_low", "invoice", "firing"),
    ]
    sender.breaks(reliability_score=0.1)
    sender.heals(drift_score=0.9)
    assert told(connection)[4:] == [("drift_high", "invoice", "firing")]
    remove_inhibition(connection, tenant, rule_id)
    sender.later(timedelta(seconds=1))
    assert told(connection)[5:] == [("reliability_low", "invoice", "resolved")]


def test_what_a_silence_keeps_back_is_not_looked_at_again_until_it_ends_or_its_severity_may_have_changed(
    connection: Connection, tenant: str, sender: Sender
) -> None:
    def looked_at() -> set[str]:
        return {row.subject.template for row in waiting(connection, "held", sender.now)}

    by_name = sender.silence("template=a")
    sender.silence("severity=warning", "template=b")
    sender.send({"template": "a", "drift_score": 0.9}, {"template": "b", "drift_score": 0.9})
    assert looked_at() == {"b"}
    end_silence(connection, tenant, by_name, now=sender.now)
    assert looked_at() == {"a", "b"}


def test_many_sources_and_many_targets_are_not_held_against_one_another() -> None:
    looks = [0]

    class Counted(dict[str, str]):
        def get(self, *arguments: Any) -> Any:
            looks[0] += 1
            return super().get(*arguments)

    def labels(event_type: str, number: int) -> Counted:
        return Counted(event_type=event_type, template=f"template-{number}")

    rule = Inhibition((Matcher("event_type", "=", "a"),), (Matcher("event_type", "=~", "[ab]"),), ("template",))
    sources = {UUID(int=number): labels("a", number) for number in range(1, 301)}
    tenant = Tenant(inhibitions=[rule], firing=sources)
    assert [tenant.muted(labels("b", number), NOW) for number in (1, 300, 301)] == [
        [Muted("inhibition", UUID(int=1))],
        [Muted("inhibition", UUID(int=300))],
        [],
    ]
    assert not any(tenant.muted(labels("a", number), NOW) for number in range(1, 301))
    assert looks[0] < 10 * 600


def test_a_group_is_told_after_its_wait_as_one_event_and_what_is_new_in_it_after_its_interval(
    connection: Connection, tenant: str, sender: Sender
) -> None:
    connection.execute(
        """insert into alerting.thresholds (tenant_id, event_type, template, comparison, value, severity)
           values (%s, 'drift_high', 'letter', 'above', 0.3, 'critical')""",
        (tenant,),
    )
    minute = timedelta(minutes=1)
    set_policy(connection, tenant, Policy(group_by=("extractor_vendor",), group_wait=minute, group_interval=5 * minute))
    for template in ("invoice", "letter", "receipt"):
        sender.breaks(template=template)
    sender.heals(template="receipt")
    assert told(connection) == []
    sender.later(minute)
    (event,) = events(connection)
    assert event["subject"]["template"] == "letter"  # type: ignore[index]
    group: Any = event["group"]
    assert group["key"] == {"event_type": "drift_high", "extractor_vendor": "vendor-a"}
    assert (group["counts"], group["omitted"]) == ({"firing": 2}, 0)
    assert [one["subject"]["template"] for one in group["alerts"]] == ["invoice", "letter"]
    sender.breaks(template="receipt")
    sender.heals(template="invoice")
    sender.later(4 * minute)
    assert len(events(connection)) == 1
    sender.later(minute)
    assert [body["group"]["counts"] for body in events(connection)[1:]] == [{"firing": 1, "resolved": 1}]  # type: ignore[index]
    for template in ("letter", "receipt"):
        sender.heals(template=template)
    sender.later(5 * minute)
    assert [body["group"]["counts"] for body in events(connection)[2:]] == [{"resolved": 2}]  # type: ignore[index]
    # Nothing of it fires any more: the group begins anew, with its wait.
    sender.breaks()
    sender.later(minute)
    assert len(events(connection)) == 4


def test_a_silence_that_begins_while_a_group_waits_keeps_its_alerts_back(
    connection: Connection, tenant: str, sender: Sender
) -> None:
    set_policy(connection, tenant, Policy(group_by=(), group_wait=timedelta(minutes=1)))
    sender.breaks()
    sender.breaks(template="letter")
    sender.silence("template=invoice")
    sender.later(timedelta(minutes=1))
    assert [body["group"]["counts"] for body in events(connection)] == [{"firing": 1}]  # type: ignore[index]
    sender.later(HOUR)
    sender.later(timedelta(minutes=5))
    assert [body["subject"]["template"] for body in events(connection)] == ["letter", "invoice"]  # type: ignore[index]


def test_a_firing_is_repeated_until_somebody_looks_after_it_once_an_interval_whatever_was_missed(
    connection: Connection, tenant: str, sender: Sender
) -> None:
    set_policy(connection, tenant, Policy(repeat_interval=HOUR))
    sender.breaks()
    for wait in (0.5, 0.5, 0.1, 3.0, 0.1):
        sender.later(wait * HOUR)
    assert statuses(connection, "drift_high") == ["firing"] * 3
    (alert,) = list_alerts(connection, tenant)
    assert isinstance(alert["alert_id"], UUID)
    acknowledge(connection, tenant, alert["alert_id"], by="ana", now=sender.now)
    sender.later(2 * HOUR)
    sender.heals()
    assert statuses(connection, "drift_high") == ["firing"] * 3 + ["resolved"]


def test_a_second_firing_within_the_suppression_window_is_told_when_the_window_ends_if_it_lasts(
    connection: Connection, tenant: str, sender: Sender
) -> None:
    set_policy(connection, tenant, Policy(suppression_window=HOUR))
    sender.breaks()
    for _ in range(3):
        sender.heals()
        sender.breaks()
    assert statuses(connection, "drift_high") == ["firing", "resolved"]
    counted = connection.execute("select reason, count(*) from alerting.suppressions group by reason").fetchall()
    assert counted == [("window", 3)]
    sender.later(HOUR)
    assert statuses(connection, "drift_high") == ["firing", "resolved", "firing"]


TEMPLATES = ("a", "b")
RULES = {"drift_high": "drift_score", "reliability_low": "reliability_score"}
MATCHERS = ("template=a", "template=~a|c", "event_type=~drift.*", "event_type=~.+low")
STEPS = st.one_of(
    st.tuples(st.sampled_from(["break", "heal"]), st.sampled_from(list(RULES)), st.sampled_from(TEMPLATES)),
    st.tuples(st.just("silence"), st.sampled_from(MATCHERS), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.just(""), st.integers(1, 3)),
)


class Alertmanager:
    """A small model: alerts as levels, looked at after each step; who isn't muted is told what it doesn't know yet.

    Where it differs from Alertmanager is said in `sensors.alerts.policy`: the end of what was told outlives a silence.
    """

    def __init__(self) -> None:
        self.hour, self.silences = 0, list[tuple[str, int]]()
        self.epochs: dict[tuple[str, str], list[list[bool]]] = {}  # firing, told to fire, told to be over
        self.told: list[tuple[str, str, str]] = []

    def step(self, what: str, which: Any, detail: Any) -> None:
        if what == "wait":
            self.hour += detail
        elif what == "silence":
            self.silences.append((which, self.hour + detail))
        else:
            epochs = self.epochs.setdefault((which, detail), [])
            if what == "break" and not (epochs and epochs[-1][0]):
                epochs.append([True, False, False])
            elif what == "heal" and epochs:
                epochs[-1][0] = False
        self.notify()

    def notify(self) -> None:
        for (event_type, template), epochs in self.epochs.items():
            for epoch in epochs:
                if self.is_muted(event_type, template):
                    continue
                if epoch[0] and not epoch[1]:
                    epoch[1] = True
                    self.told.append((event_type, template, "firing"))
                elif not epoch[0] and epoch[1] and not epoch[2]:
                    epoch[2] = True
                    self.told.append((event_type, template, "resolved"))

    def is_muted(self, event_type: str, template: str) -> bool:
        source = self.epochs.get(("drift_high", template), [])
        if event_type == "reliability_low" and source and source[-1][0]:
            return True
        labels = {"event_type": event_type, "template": template}
        return any(self.hour < end and _fits(matcher, labels) for matcher, end in self.silences)


def _fits(text: str, labels: dict[str, str]) -> bool:
    name, operator, value = re.split(r"(=~|!~|!=|=)", text)
    fits = bool(re.fullmatch(value, labels.get(name, ""))) if "~" in operator else labels.get(name, "") == value
    return fits is not operator.startswith("!")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=3, max_size=14))
def test_whatever_fires_heals_and_is_silenced_the_same_is_told_as_by_a_model_of_alertmanager(
    connection: Connection, tenant: str, sender: Sender, steps: Sequence[tuple[str, str, Any]]
) -> None:
    connection.execute(
        """truncate raw.evaluations, raw.evaluation_keys, raw.ingest_batches, access.templates, alerting.alerts,
               alerting.events, alerting.positions, alerting.silences, alerting.inhibitions cascade"""
    )
    connection.execute(
        "update alerting.thresholds set enabled = event_type = any(%s), max_age = '30 days'", (list(RULES),)
    )
    rule = Inhibition((parse_matcher("event_type=drift_high"),), (parse_matcher("event_type=reliability_low"),))
    add_inhibition(connection, tenant, Inhibition(rule.source_matchers, rule.target_matchers, ("template",)))
    sender.now, model = NOW, Alertmanager()
    for what, which, detail in steps:
        model.step(what, which, detail)
        if what == "wait":
            sender.later(detail * HOUR)
        elif what == "silence":
            sender.silence(which, lasting=detail * HOUR)
            sender.later(timedelta())
        else:
            other = {"drift_score": None, "reliability_score": None}
            score = 0.5 if what == "break" or which == "drift_high" else 0.95
            value = score if what == "break" else (0.1 if which == "drift_high" else 0.95)
            record = other | {RULES[which]: value, "score": 0.5, "template": detail}
            sender.send(*[record] * (1 if what == "break" else 3))
    # In one look many are told at once, and the model knows no order among them.
    assert sorted(told(connection)) == sorted(model.told)
    for subject in model.epochs:
        mine = [row for row in told(connection) if row[:2] == subject]
        assert mine == [row for row in model.told if row[:2] == subject]


LABELLED = st.fixed_dictionaries({}, optional={label: st.sampled_from(["", "a", "ab", "b"]) for label in LABELS})


@given(
    name=st.sampled_from(LABELS),
    operator=st.sampled_from(["=", "!=", "=~", "!~"]),
    value=st.sampled_from(["", "a", "a.*", "a|b", ".*", "b?"]),
    labels=LABELLED,
)
def test_a_matcher_means_what_it_means_in_alertmanager(
    name: Any, operator: Any, value: str, labels: dict[str, str]
) -> None:
    assert fit([Matcher(name, operator, value)], labels) is _fits(f"{name}{operator}{value}", labels)


@given(
    name=st.sampled_from(LABELS),
    operator=st.sampled_from(["=", "!=", "=~", "!~"]),
    value=st.text(alphabet='a~"=! \n', max_size=6),
)
def test_a_matcher_is_read_as_it_is_written(name: Any, operator: Any, value: str) -> None:
    matcher = Matcher(name, operator, value)
    assert parse_matcher(str(matcher)) == matcher


def test_a_pattern_that_other_engines_never_finish_takes_no_time_here() -> None:
    assert not parse_matcher("template=~(a+)+b").fits({"template": "a" * 200})


def _scan_until_killed(database: Database, now: datetime, statements: int) -> None:
    left = [statements]
    real = psycopg.Cursor.execute

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(self, *arguments, **options)

    psycopg.Cursor.execute = counted  # type: ignore[method-assign]
    with database.connect(autocommit=True) as connection:
        scan(connection, now)
    os._exit(0)


def test_a_scanner_killed_between_any_two_statements_around_a_silences_end_tells_it_once(
    connection: Connection, database: Database, tenant: str, sender: Sender
) -> None:
    connection.execute(
        "insert into alerting.webhooks (tenant_id, url, sealed_url) values (%s, 'https://example.com/…', '')", (tenant,)
    )
    sender.silence("template=invoice")
    sender.breaks()
    push(connection, tenant, [evaluation(100, template="letter", drift_score=0.9)], sender.now)
    forking = multiprocessing.get_context("fork")
    for statements in range(200):
        child = forking.Process(target=_scan_until_killed, args=(database, NOW + HOUR, statements))
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        assert told(connection) == []
        rows = connection.execute("select state from alerting.notifications").fetchall()
        assert rows == [("held",)]
    assert statements > 20
    sender.later(2 * HOUR)
    assert sorted(told(connection)) == [("drift_high", "invoice", "firing"), ("drift_high", "letter", "firing")]
    deliveries = connection.execute("select count(*) from alerting.webhook_deliveries").fetchone()
    assert deliveries == (2,)
