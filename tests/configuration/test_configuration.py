"""A configuration file: what it holds, when it is refused, and that applying it is all or nothing."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from alert_rows import NOW, evaluation, forecast, push
from cryptography.fernet import Fernet
from typer.testing import CliRunner

from orchestration.cli import app
from sensors.alerts.inhibitions import list_inhibitions
from sensors.alerts.policies import get_policy
from sensors.alerts.policy import Policy
from sensors.alerts.scan import scan
from sensors.alerts.thresholds import list_thresholds, set_threshold
from sensors.configuration.applying import apply, compare, export, seal, try_out
from sensors.configuration.document import Document, format_duration, parse_duration, read_document
from sensors.webhooks.registry import Webhook, create_webhook, list_webhooks
from storage.database import Connection, Database
from storage.errors import ConflictError, UsageError
from storage.secrets import SecretBox
from storage.settings import Settings

Change = Callable[[dict[str, Any]], object]
INHIBITION = {
    "source_matchers": ["event_type=evaluations_missing"],
    "target_matchers": ["event_type=~drift_.+"],
    "equal": [],
}


@pytest.fixture
def webhook(connection: Connection, tenant: str) -> Webhook:
    made, _ = create_webhook(
        connection, SecretBox([Fernet.generate_key().decode()]), tenant, "https://8.8.8.8/secret-path", now=NOW
    )
    return made


def changed(connection: Connection, tenant: str | None, change: Change, *, sealed: bool = True) -> Document:
    """The export, changed as a person would, and sealed."""
    content = yaml.safe_load(export(connection, tenant))
    change(content)
    document = read_document(yaml.safe_dump(content))
    return read_document(seal(connection, document)) if sealed else document


def deployed(connection: Connection, tenant: str) -> list[object]:
    tables = ("thresholds", "inhibitions", "notification_policies", "webhooks")
    rows = [connection.execute(f"select * from alerting.{table} order by 1").fetchall() for table in tables]  # type: ignore[arg-type]  # noqa: S608
    return [*rows, connection.execute("select count(*) from access.audit_log").fetchall()]


def everything(content: dict[str, Any], webhook_id: object) -> None:
    content["thresholds"] = [
        {
            "event_type": "drift_high",
            "template": "invoice",
            "comparison": "above",
            "value": 0.4,
            "severity": "critical",
            "clear_n": 5,
            "max_age": "3d12h",
            "window_n": 50,
            "window_span": "1d",
            "enabled": True,
        }
        | {name: value for name, value in {"for_n": 1}.items() if _has_column(content, name)}
    ]
    content["inhibitions"] = [INHIBITION]
    content["policy"] |= {"group_by": ["template"], "group_wait": "30s", "repeat_interval": "4h"}
    (webhook,) = content["webhooks"]
    assert webhook["webhook_id"] == str(webhook_id)
    webhook |= {"status": "paused", "event_types": ["drift_high"], "description": "on call"}


def _has_column(content: dict[str, Any], name: str) -> bool:
    return any(name in entry for entry in content["thresholds"])


def test_a_file_is_applied_as_one_audited_with_both_checksums_and_its_export_is_the_file(
    connection: Connection, tenant: str, webhook: Webhook
) -> None:
    set_threshold(connection, tenant, "reliability_low", 0.5)
    text = export(connection, tenant)
    assert "8.8.8.8" in text
    assert "secret-path" not in text
    assert "whsec" not in text
    document = changed(connection, tenant, lambda content: everything(content, webhook.webhook_id))
    applied = apply(connection, document)
    assert (applied.before, applied.after) == (read_document(text).checksum, document.checksum)
    own = [row for row in list_thresholds(connection, tenant) if row.tenant_id == tenant]
    assert [(row.event_type, row.template, row.value, row.max_age) for row in own] == [
        ("drift_high", "invoice", 0.4, timedelta(days=3, hours=12))
    ]
    assert [(row.window_n, row.window_span, row.min_n) for row in own] == [(50, timedelta(days=1), None)]
    assert len(list_inhibitions(connection, tenant)) == 1
    assert get_policy(connection, tenant) == Policy(
        group_by=("template",), group_wait=timedelta(seconds=30), repeat_interval=timedelta(hours=4)
    )
    (hook,) = list_webhooks(connection, tenant)
    assert (hook.status, hook.event_types, hook.description) == ("paused", ["drift_high"], "on call")
    detail = connection.execute("select detail from access.audit_log where action = 'config.apply'").fetchall()
    assert detail == [({"from": applied.before, "to": applied.after, "forced": False, "changes": 5},)]
    again = read_document(export(connection, tenant))
    assert (again.content, again.checksum) == (document.content, document.checksum)
    before = deployed(connection, tenant)
    for same in (again, document):
        assert apply(connection, same).changes == [], "a file that is deployed may be applied again, whatever its base"
    assert deployed(connection, tenant) == before


def test_a_file_that_was_not_sealed_or_whose_base_is_gone_is_refused_unless_forced(
    connection: Connection, tenant: str
) -> None:
    def repeat(content: dict[str, Any]) -> None:
        content["policy"]["repeat_interval"] = "1h"

    with pytest.raises(UsageError, match="tidemark config seal"):
        apply(connection, changed(connection, tenant, repeat, sealed=False))
    document = changed(connection, tenant, repeat)
    set_threshold(connection, tenant, "drift_high", 0.9)
    before = deployed(connection, tenant)
    with pytest.raises(ConflictError, match="has been changed since the file was exported"):
        apply(connection, document)
    assert deployed(connection, tenant) == before
    assert len(apply(connection, document, force=True).changes) == 2
    assert [row for row in list_thresholds(connection, tenant) if row.tenant_id] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(extra=1), "extra"),
        (lambda c: c.update(thresholds={}), "thresholds: must be a list"),
        (lambda c: c["thresholds"][0].update(value="high"), "drift_high: value must be of type double precision"),
        (lambda c: c["thresholds"][0].update(value=float("nan")), "no place in JSON"),
        (lambda c: c["thresholds"][0].update(value=2), "between 0 and 1"),
        (lambda c: c["thresholds"][0].update(value=10**400), "larger than any number"),
        (lambda c: c["thresholds"][0].update(clear_n=True), "clear_n must be of type integer"),
        (lambda c: c["thresholds"][0].update(max_age="7 days"), "isn't a duration such as 7d"),
        (lambda c: c["thresholds"][0].update(severity="loud"), "severity"),
        (lambda c: c["thresholds"][0].update(bound=1), "unknown field bound"),
        (lambda c: c["thresholds"][0].update(comparison="below"), "event_type and comparison"),
        (lambda c: c["thresholds"].append(dict(c["thresholds"][0])), "stands there twice"),
        (lambda c: c["inhibitions"].append(INHIBITION | {"equal": ["tenant"]}), "equal: unknown label tenant"),
        (lambda c: c["inhibitions"].append({}), "inhibitions"),
        (lambda c: c["policy"].update(group_by="template"), "group_by must be null or a list"),
        (lambda c: c["policy"].update(group_wait=None), "0s waits for nothing"),
        (lambda c: c["webhooks"].clear(), "names each webhook"),
        (lambda c: c["webhooks"][0].update(host="evil.example"), "host is only told"),
        (lambda c: c["webhooks"][0].update(event_types=["drift_hihg"]), "unknown event type"),
    ],
)
def test_what_cannot_be_applied_is_refused_by_its_field_and_nothing_is_changed(
    connection: Connection, tenant: str, webhook: Webhook, change: Change, message: str
) -> None:
    set_threshold(connection, tenant, "drift_high", 0.5)
    before = deployed(connection, tenant)
    with pytest.raises(UsageError, match=message):
        apply(connection, changed(connection, tenant, change, sealed=False), force=True)
    assert deployed(connection, tenant) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("thresholds: &a [&b [x, x], *b, *b]", "references"),
        ("value: 0.3\nvalue: 0.9", "value stands there twice"),
        ("policy: {group_wait: 1s, group_wait: 9s}", "group_wait stands there twice"),
        ("[" * 100_000, "nested too deeply"),
        ("value: " + "9" * 5_000, "isn't YAML"),
        ("since: 2001-13-45", "isn't YAML"),
        ("value: !!float high", "isn't YAML"),
        ('{tidemark_config: 1, base: "\\ud800", checksum: "", tenant: null, thresholds: []}', "no place in JSON"),
        ('{tidemark_config: 1, base: "", checksum: "", tenant: "a\\0b", thresholds: []}', "tenant|NUL"),
        ('{tidemark_config: 1, base: "", checksum: "", tenant: null, thresholds: [{template: "a\\0b"}]}', "NUL"),
    ],
)
def test_a_text_that_says_more_or_less_than_stands_there_is_refused_whatever_it_is(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_document(text)


def test_a_file_is_applied_while_a_dispatcher_holds_an_endpoint_and_goes_on_to_write_it(
    connection: Connection, database: Database, tenant: str, webhook: Webhook
) -> None:
    document = changed(connection, tenant, lambda content: content["webhooks"][0].update(status="paused"))

    def apply_beside() -> None:
        with database.connect(autocommit=True) as own:
            apply(own, document)

    applying = threading.Thread(target=apply_beside)
    with database.connect() as dispatcher:
        dispatcher.execute("select from alerting.webhooks for no key update")
        applying.start()
        waiting = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        while applying.is_alive() and connection.execute(waiting).fetchone() is None:
            pass
        dispatcher.execute("update alerting.webhooks set tokens = 1")
    applying.join()
    assert [one.status for one in list_webhooks(connection, tenant)] == ["paused"]


def test_names_that_look_like_parts_of_others_are_kept_apart(connection: Connection, tenant: str) -> None:
    set_threshold(connection, tenant, "drift_high", 0.5, template="a", extractor=("b", "c"))
    set_threshold(connection, tenant, "drift_high", 0.6, template="a extractor_vendor=b extractor_model=c")
    before = deployed(connection, tenant)
    assert apply(connection, read_document(export(connection, tenant))).changes == []
    document = changed(connection, tenant, lambda content: content["thresholds"].pop())
    assert len(apply(connection, document).changes) == 1
    assert deployed(connection, tenant) != before


def test_the_defaults_of_all_are_a_file_of_their_own_from_which_none_can_be_left_out(connection: Connection) -> None:
    def raise_bound(content: dict[str, Any]) -> None:
        for entry in content["thresholds"]:
            if entry["event_type"] == "drift_high":
                entry["value"] = 0.35

    document = changed(connection, None, raise_bound)
    assert [change["entry"] for change in compare(connection, document).changes] == ["drift_high"]
    apply(connection, document)
    value = connection.execute("select value from alerting.thresholds where event_type = 'drift_high'").fetchone()
    assert value == (0.35,)
    with pytest.raises(UsageError, match="can be disabled"):
        changed(connection, None, lambda content: content["thresholds"].pop())


def test_a_trial_of_a_file_tells_what_it_would_have_fired(connection: Connection, tenant: str) -> None:
    # Not by the command, whose entry in the audit log says that the rule was another one before.
    connection.execute(
        """insert into alerting.thresholds (tenant_id, event_type, comparison, value)
           values (%s, 'drift_high', 'above', 0.5)""",
        (tenant,),
    )
    connection.execute("update alerting.thresholds set enabled = event_type = 'drift_high'")
    now = connection.execute("select clock_timestamp()").fetchone()
    assert now is not None
    push(connection, tenant, [evaluation(1, at=now[0] - timedelta(hours=1), drift_score=0.4)], now[0])
    scan(connection, now[0])
    document = changed(connection, tenant, lambda content: content["thresholds"][0].update(value=0.3))
    report = try_out(connection, document, days=7, now=now[0] + timedelta(minutes=1)).report()
    assert (report["deployed"], report["proposed"]) == ({}, {"firing": 1})
    assert report["deployed_replay_equals_log"]


def test_the_command_exports_seals_tries_and_applies(
    connection: Connection, tenant: str, settings: Settings, tmp_path: Path
) -> None:
    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    file = tmp_path / "acme.yaml"
    run("config", "export", "--tenant", tenant, "--out", str(file))
    run("alert", "policy", "set", "--tenant", tenant, "--repeat-interval", "4h", "--group-by", "template")
    rule = run(
        "alert", "inhibition", "add", "--tenant", tenant, "--source", "event_type=evaluations_missing", "--target",
        "event_type=~drift_.+",
    )  # fmt: skip
    run("alert", "inhibition", "remove", rule["inhibition_id"], "--tenant", tenant)
    run("alert", "policy", "set", "--tenant", tenant, "--repeat-interval", "off", "--group-by", "off")
    silence = run("alert", "silence", "add", "template=~inv.*", "--tenant", tenant, "--for", "2h")
    assert run("alert", "silence", "suppressed", silence["silence_id"], "--tenant", tenant) == []
    run("alert", "silence", "end", silence["silence_id"], "--tenant", tenant)
    content = yaml.safe_load(file.read_text())
    content["policy"]["suppression_window"] = "1h"
    file.write_text(yaml.safe_dump(content))
    run("config", "seal", str(file))
    trial = run("config", "apply", str(file), "--dry-run")
    assert trial["changes"][0]["to"]["suppression_window"] == "1h"
    assert trial["dry_run"]["deployed_replay_equals_log"]
    assert get_policy(connection, tenant).suppression_window is None
    run("config", "apply", str(file))
    assert get_policy(connection, tenant).suppression_window == timedelta(hours=1)


def test_a_trial_tells_a_templates_two_anomalies_apart_and_names_rules_that_no_replay_can_try(
    connection: Connection, tenant: str, settings: Settings, tmp_path: Path
) -> None:
    assert settings
    now = datetime.now(UTC)
    push(connection, tenant, [evaluation(1, at=now)], now)
    for measure, actual in (("drift", 0.3), ("reliability", 0.5)):
        forecast(connection, tenant, now - timedelta(days=1), anomaly=True, actual=actual, measure=measure)
    scan(connection, now)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    for event_type, value in (("drift_anomaly", "0.01"), ("drift_predicted", "0.4")):
        run("threshold", "set", event_type, "--tenant", tenant, "--value", value)
    file = tmp_path / "acme.yaml"
    run("config", "export", "--tenant", tenant, "--out", str(file))
    content = yaml.safe_load(file.read_text())
    values = {"drift_anomaly": 0.2, "drift_predicted": 0.9}
    for rule in content["thresholds"]:
        rule["value"] = values[rule["event_type"]]
    file.write_text(yaml.safe_dump(content))
    run("config", "seal", str(file))
    told = run("config", "apply", str(file), "--dry-run")
    assert f"would not fire {tenant}/drift_anomaly/drift_score/invoice at" in told
    assert told.count("would not fire") == 1
    assert "not compared drift_predicted: the file changes its rules" in told


@pytest.mark.parametrize("seconds", [0, 0.5, 59, 60, 86_400, 7 * 86_400 + 3661])
def test_a_duration_is_read_as_it_was_written(seconds: float) -> None:
    time = timedelta(seconds=seconds)
    assert parse_duration(format_duration(time), "x") == time
