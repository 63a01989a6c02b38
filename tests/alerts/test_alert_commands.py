"""Rules and alerts by the command line, as a user runs it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from alert_rows import evaluation, push
from structlog.testing import capture_logs
from typer.testing import CliRunner

from orchestration.commands import alert, tenant, threshold
from sensors.alerts.scan import scan
from storage.database import Connection
from storage.errors import UsageError


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Logs go where no command's output is looked for, as the command line itself has it."""
    with capture_logs():
        yield


def tidemark(app: object, *arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.usefixtures("settings")
def test_tiers_bounds_evidence_and_a_new_baseline_by_commands(connection: Connection) -> None:
    now = datetime.now(UTC)
    tidemark(tenant.app, "create", "acme")
    tidemark(threshold.app, "set", "drift_high", "--tier", "gold", "--value", "0.4", "--clear-value", "0.35")
    assert tidemark(tenant.app, "tier", "acme", "gold") == {"tenant": "acme", "tier": "gold"}
    listed = tidemark(threshold.app, "list", "--tenant", "acme")
    assert [row["holds_for"] for row in listed if row["event_type"] == "drift_high"] == ["tier gold", "default"]
    row = tidemark(
        *(threshold.app, "set", "drift_high", "-t", "acme", "--extractor-vendor", "vendor-a"),
        *("--extractor-model", "model-1", "--for-n", "2", "--clear-value", "none"),
    )
    assert (row["value"], row["clear_value"], row["for_n"]) == (0.4, None, 2), "what isn't given comes from the tier"
    mean = ("set", "reliability_low", "-t", "acme", "--window-n", "50", "--window", "1h30m", "--min-n", "20")
    row = tidemark(threshold.app, *mean)
    assert (row["window_n"], row["window_span"], row["min_n"]) == (50, "1h30m", 20)
    row = tidemark(threshold.app, *mean[:4], "--window", "none", "--min-n", "none")
    assert (row["window_n"], row["window_span"], row["min_n"]) == (50, None, None)
    push(connection, "acme", [evaluation(n, at=now, drift_score=0.4 + n / 10) for n in (1, 2)], now)
    scan(connection, now)
    [firing] = tidemark(alert.app, "list", "--tenant", "acme", "--status", "firing")
    shown = tidemark(alert.app, "show", firing["alert_id"], "--tenant", "acme")
    assert shown["evidence"] == firing["evidence"]
    assert shown["evidence"]["baseline"]["rule"]["set_for"] == "tenant and extractor vendor-a/model-1"
    plain = CliRunner().invoke(alert.app, ["show", firing["alert_id"], "--tenant", "acme"], catch_exceptions=False)
    assert "from raw.evaluations" in plain.output
    made = tidemark(alert.app, "rebaseline", firing["alert_id"], "--tenant", "acme", "--reason", "new scanner")
    assert made["bound"] == pytest.approx(0.6)
    assert tidemark(alert.app, "list", "--tenant", "acme", "--status", "firing") == []
    [ended] = tidemark(alert.app, "rebaselines", "--tenant", "acme", "--end", made["rebaseline_id"])
    assert ended["ended_at"] is not None
    unset = (
        "unset",
        "drift_high",
        "--tenant",
        "acme",
        "--extractor-vendor",
        "vendor-a",
        "--extractor-model",
        "model-1",
    )
    tidemark(threshold.app, *unset)
    tidemark(threshold.app, "unset", "reliability_low", "--tenant", "acme")
    tidemark(threshold.app, "unset", "drift_high", "--tier", "gold")
    assert all(row["holds_for"] == "default" for row in tidemark(threshold.app, "list", "--tenant", "acme"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list",), "--tenant or --tier"),
        (("set", "drift_high", "-t", "acme"), "--for-n"),
        (("set", "drift_high", "-t", "acme", "--clear-value", "low"), "give a number, or none"),
        (("set", "decision_review", "-t", "acme", "--value", "0.3"), "Give window-n"),
        (("set", "drift_predicted", "-t", "acme", "--value", "2"), "between 0 and 1, the probability of a crossing"),
        (("set", "drift_high", "-t", "acme", "--value", "0.1", "--extractor-vendor", "v"), "--extractor-model"),
    ],
)
@pytest.mark.usefixtures("settings", "tenant")
def test_a_command_that_lacks_something_says_what(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CliRunner().invoke(threshold.app, list(arguments), catch_exceptions=False)
