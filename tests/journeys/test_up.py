"""The platform served: what is pushed while `tidemark up` runs is alerted, delivered and in the marts by itself."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import psutil

from assets.evaluations.landing import land
from assets.evaluations.verdicts import Line
from orchestration.demo.receiver import Receiver
from sensors.webhooks.registry import create_webhook
from storage.api_keys import create_key
from storage.database import Connection
from storage.secrets import secret_box
from storage.settings import PROJECT_ROOT, Settings

_PATIENCE_SECONDS = 150.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.5)


def _answers(port: int, path: str = "server_info") -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def _counted(port: int, key: str) -> int | None:
    answer = httpx.get(f"http://127.0.0.1:{port}/v1/dashboard/overview", headers={"X-API-Key": key}, timeout=10)
    if answer.status_code != 200:
        return None
    return sum(row["total_evaluations"] for row in answer.json()["data"])


def _all_at_work(port: int) -> bool:
    checks = httpx.get(f"http://127.0.0.1:{port}/health", timeout=10).json()["checks"]
    at_work = all(checks[f"{worker}_seen_at"] is not None for worker in ("dispatcher", "sweeper", "daemon"))
    return at_work and checks["backlog_batches"] == 0


def _land(connection: Connection, tenant: str) -> None:
    record = {
        "template": "invoice",
        "extractor_vendor": "v",
        "extractor_model": "m",
        "drift_score": 0.9,
        "created_at": datetime.now(UTC).isoformat(),
    }
    now = datetime.now(UTC)
    land(connection, tenant, "evaluations", [Line(1, json.dumps(record).encode())], door="test", now=now)


def test_a_breach_pushed_while_it_serves_arrives_as_a_verified_webhook_and_in_the_marts(
    settings: Settings, connection: Connection, tenant: str
) -> None:
    port, door = _free_port(), _free_port()
    environment = os.environ | {
        "TIDEMARK_DAGSTER_PORT": str(port),
        "TIDEMARK_GATEWAY_PORT": str(door),
        "TIDEMARK_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    up = subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "up"], cwd=PROJECT_ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        with Receiver() as receiver:
            allowed = Settings(webhook_allowed_networks="127.0.0.0/8").webhook_allowed_networks
            _, secret = create_webhook(
                connection,
                secret_box(settings),
                tenant,
                receiver.url("/hook"),
                now=datetime.now(UTC),
                event_types=["drift_high"],
                allowed=allowed,
            )
            receiver.trust("/hook", secret)
            _until(lambda: _answers(door, "health"), "the HTTP door")
            _until(lambda: _answers(port), "Dagster's page")
            _land(connection, tenant)
            _until(lambda: bool(receiver.requests), "the webhook")
            assert [(event.event_type, event.verified) for event in receiver.requests] == [("drift_high", True)]
            _until(lambda: _in_mart(connection), "the mart")
            _, key = create_key(connection, tenant, ["read"], now=datetime.now(UTC))
            _until(lambda: _counted(door, key) == 1, "the dashboard over HTTP")
            _until(lambda: _all_at_work(door), "the heartbeats in /health")
        family = psutil.Process(up.pid).children(recursive=True)
        assert family
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    assert not [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not _answers(port)
    assert not _answers(door, "health")


def _in_mart(connection: Connection) -> bool:
    exists = connection.execute("select to_regclass('marts.drift_history')").fetchone()
    if exists is None or exists[0] is None:
        return False
    return connection.execute("select drift_score, evaluation_count from marts.drift_history").fetchall() == [(0.9, 1)]
