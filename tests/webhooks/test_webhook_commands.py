"""The delivery sensor by real ticks, and the command line, as a user runs them."""

import json
from collections.abc import Iterator

import dagster as dg
import pytest
from delivering import SetClock, happen
from receiver import Receiver, answer
from standardwebhooks import Webhook, WebhookVerificationError
from structlog.testing import capture_logs
from typer.testing import CliRunner

from orchestration.commands import alert, threshold, webhook
from sensors.webhooks.sensors import definitions
from storage.database import Connection, Database
from storage.errors import UsageError
from storage.settings import Settings


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Logs go where no command's output is looked for, as the command line itself has it."""
    with capture_logs():
        yield


@pytest.fixture
def allowed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")


def tidemark(app: object, *arguments: str) -> object:
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.usefixtures("allowed")
def test_a_tick_sends_what_is_due_and_says_so(
    connection: Connection, database: Database, tenant: str, clock: SetClock, receiver: Receiver
) -> None:
    tidemark(webhook.app, "create", receiver.url, "--tenant", tenant)
    happen(connection, tenant, clock, "one", "two")
    (sensor,) = definitions()
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    said = []
    for _ in range(2):
        result = sensor(dg.build_sensor_context(resources={"database": database, "clock": clock}))
        assert isinstance(result, dg.SkipReason)
        said.append(result.skip_message)
    assert said == ["2 delivered", "nothing due"]
    receiver.behaviour = answer(503)
    happen(connection, tenant, clock, "three")
    result = sensor(dg.build_sensor_context(resources={"database": database, "clock": clock}))
    assert isinstance(result, dg.SkipReason)
    assert result.skip_message == "0 delivered, 1 to be tried again"
    clock.move(minutes=2)
    receiver.behaviour = answer(404)
    said = []
    for _ in range(2):
        result = sensor(dg.build_sensor_context(resources={"database": database, "clock": clock}))
        assert isinstance(result, dg.SkipReason)
        said.append(result.skip_message)
        happen(connection, tenant, clock, "four", "five")
    assert said == ["0 delivered, 1 to be tried again", "nothing due; 2 parked"]


@pytest.mark.usefixtures("allowed")
def test_an_operator_registers_tests_rotates_replays_and_deletes_an_endpoint_by_commands(
    connection: Connection, tenant: str, receiver: Receiver
) -> None:
    owner = ("--tenant", tenant)
    made = tidemark(webhook.app, "create", receiver.url, "--event", "drift_high", *owner)
    assert isinstance(made, dict)
    webhook_id = made["webhook_id"]
    (listed,) = tidemark(webhook.app, "list", *owner)  # type: ignore[misc]
    assert (listed["webhook_id"], listed["event_types"]) == (webhook_id, ["drift_high"])
    assert "secret" not in listed
    queued = tidemark(webhook.app, "test", webhook_id, *owner)
    assert isinstance(queued, dict)
    assert tidemark(webhook.app, "deliver")["delivered"] == 1  # type: ignore[index, call-overload]
    assert Webhook(made["secret"]).verify(receiver.requests[0].body, receiver.requests[0].headers)["type"] == (
        "webhook_test"
    )
    tidemark(webhook.app, "replay", queued["delivery_id"], *owner)
    assert tidemark(webhook.app, "pause", webhook_id, *owner)["status"] == "paused"  # type: ignore[index, call-overload]
    assert tidemark(webhook.app, "deliver")["delivered"] == 0  # type: ignore[index, call-overload]
    after_leak = tidemark(webhook.app, "rotate", webhook_id, "--overlap-hours", "0", *owner)
    rotated = tidemark(webhook.app, "rotate", webhook_id, *owner)
    assert isinstance(rotated, dict)
    assert isinstance(after_leak, dict)
    tidemark(webhook.app, "resume", webhook_id, *owner)
    tidemark(webhook.app, "deliver")
    for secret in (after_leak["secret"], rotated["secret"]):
        Webhook(secret).verify(receiver.requests[1].body, receiver.requests[1].headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(receiver.requests[1].body, receiver.requests[1].headers)
    (delivery,) = tidemark(webhook.app, "deliveries", webhook_id, *owner)  # type: ignore[misc]
    assert (delivery["event_id"], delivery["alert_id"], delivery["correlation_id"]) == (
        json.loads(receiver.requests[0].body)["id"],
        None,
        None,
    )
    assert (delivery["state"], delivery["status_code"], delivery["response"]) == ("delivered", 200, "ok")
    tidemark(webhook.app, "delete", webhook_id, *owner)
    assert tidemark(webhook.app, "list", *owner) == []


@pytest.mark.usefixtures("allowed")
def test_an_operator_changes_how_an_endpoint_is_served_and_sends_all_dead_letters_again(
    connection: Connection, tenant: str, clock: SetClock, receiver: Receiver
) -> None:
    owner = ("--tenant", tenant)
    how = ("--format", "slack", "--rate-per-second", "9")
    made = tidemark(webhook.app, "create", receiver.url + "/url-token", *how, *owner)
    assert isinstance(made, dict)
    shown = tidemark(webhook.app, "show", made["webhook_id"], *owner)
    assert isinstance(shown, dict)
    assert (shown["url"], shown["format"]) == (f"http://127.0.0.1:{receiver.port}/…", "slack")
    assert (shown["rate_per_second"], shown["max_in_flight"], shown["public_keys"]) == (9.0, 8, [])
    asked = ("--ed25519", "--rate-per-second", "0", "--ordered", "--event", "drift_high")
    changed = tidemark(webhook.app, "change", made["webhook_id"], *asked, *owner)
    assert isinstance(changed, dict)
    assert (changed["rate_per_second"], changed["ordered"], changed["event_types"]) == (None, True, ["drift_high"])
    assert changed["public_keys"][0].startswith("whpk_")
    happen(connection, tenant, clock, "one", "two")
    connection.execute("update alerting.webhook_deliveries set state = 'failed'")
    dead = tidemark(webhook.app, "deliveries", "--state", "failed", *owner)
    assert isinstance(dead, list)
    assert len(dead) == 2
    again = ("replay", "--state", "failed", "--since", f"{clock.now():%Y-%m-%d}", *owner)
    assert tidemark(webhook.app, *again, "--dry-run") == {"queued": 2, "without_body": 0, "left": 0, "dry_run": True}
    for queued in (2, 0):
        assert tidemark(webhook.app, *again)["queued"] == queued  # type: ignore[index, call-overload]
    assert tidemark(webhook.app, "deliver")["delivered"] == 2  # type: ignore[index, call-overload]
    assert all(json.loads(request.body)["blocks"] for request in receiver.requests)


@pytest.mark.usefixtures("allowed")
def test_an_endpoint_that_is_sent_nothing_says_why_and_what_to_do(
    connection: Connection, tenant: str, receiver: Receiver
) -> None:
    def tested() -> str:
        result = CliRunner().invoke(webhook.app, ["test", webhook_id, *owner], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    owner = ("--tenant", tenant)
    webhook_id = tidemark(webhook.app, "create", receiver.url, *owner)["webhook_id"]  # type: ignore[index, call-overload]
    assert "running dispatcher" in tested()
    receiver.behaviour = answer(404)
    tidemark(webhook.app, "deliver")
    shown = tidemark(webhook.app, "show", webhook_id, *owner)
    assert isinstance(shown, dict)
    assert (shown["status"], shown["held_back_because"]) == ("active", "it answered 404")
    assert shown["held_back_until"] > shown["created_at"]
    assert "held back (it answered 404)" in tested()
    for waiting in tidemark(webhook.app, "deliveries", webhook_id, *owner):  # type: ignore[union-attr]
        replayed = CliRunner().invoke(webhook.app, ["replay", waiting["delivery_id"], *owner], catch_exceptions=False)
        assert "is held back (it answered 404), so it is parked until it is tried at" in replayed.stdout
    paused = tidemark(webhook.app, "pause", webhook_id, *owner)
    assert isinstance(paused, dict)
    assert paused["held_back_because"] is None
    assert f"paused: `tidemark webhook resume {webhook_id}" in tested()


@pytest.mark.usefixtures("settings")
def test_thresholds_and_alerts_are_looked_after_by_commands(connection: Connection, tenant: str) -> None:
    owner = ("--tenant", tenant)
    tidemark(threshold.app, "set", "drift_high", "--value", "0.5", "--max-age-days", "2", *owner)
    rows = tidemark(threshold.app, "list", *owner)
    assert isinstance(rows, list)
    assert [row["value"] for row in rows if row["event_type"] == "drift_high"] == [0.5, 0.3]
    for age in ("nan", "1e300"):
        refused = CliRunner().invoke(threshold.app, ["set", "drift_high", "--max-age-days", age, *owner])
        assert isinstance(refused.exception, UsageError)
    tidemark(threshold.app, "unset", "drift_high", *owner)
    connection.execute(
        """insert into alerting.alerts
               (tenant_id, event_type, template, epoch, status, severity, metric, value, threshold, breach_count,
                window_start, window_end, started_at)
           values (%s, 'drift_high', 'invoice', 1, 'firing', 'warning', 'drift_score', 0.9, 0.3, 1,
                   now(), now(), now())""",
        (tenant,),
    )
    (listed,) = tidemark(alert.app, "list", "--status", "firing", *owner)  # type: ignore[misc]
    assert tidemark(alert.app, "ack", listed["alert_id"], *owner)["changed"]  # type: ignore[index, call-overload]
    assert tidemark(alert.app, "resolve", listed["alert_id"], *owner)["changed"]  # type: ignore[index, call-overload]
    assert tidemark(alert.app, "list", "--status", "firing", *owner) == []
    assert tidemark(alert.app, "scan")["batches"] == 0  # type: ignore[index, call-overload]
