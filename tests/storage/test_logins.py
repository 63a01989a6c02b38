"""Processes with logins of their own, as docs/access.md has them made: each serves as it does with the owner's."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from delivering import LOOPBACK
from door import serving
from otlp import event, log, request
from poison import good, line
from process_logins import process_logins
from selection_rows import arm, plant_recommendation
from typer.testing import CliRunner

from assets.warehouse.build import run_dbt
from benchmarks.gateway_load import free_port, gateway_process, until
from gateway.options import DoorOptions
from orchestration.cli import app
from sensors.alerts.scan import scan
from storage.api_keys import SCOPES, create_key
from storage.clock import Clock
from storage.database import Connection, Database, connect, create_if_missing
from storage.errors import DatabaseUnavailableError
from storage.limits import set_monthly_limit
from storage.postgres_url import PostgresUrl
from storage.settings import PROJECT_ROOT, Settings
from storage.tenants import create_tenant

NDJSON = {"Content-Type": "application/x-ndjson"}
DAGSTER = "dagster_with_heartbeat"
WEBHOOK = "https://127.0.0.1:9/hook"


@pytest.fixture
def logins(settings: Settings, database: Database) -> Iterator[dict[str, PostgresUrl]]:
    with process_logins(database, ("tidemark_ingest", "tidemark_api", "tidemark_dbt")) as addresses:
        yield addresses


def _evaluations(count: int) -> list[dict[str, Any]]:
    """Some of every template's days, with what each route needs: feedback, an embedding, a breach."""
    now = Clock().now()
    return [
        good(
            number,
            created_at=(now - timedelta(hours=12 * number)).isoformat(),
            extractor_model=f"reader-{number % 2}",
            embedding=[number + 1] + [0] * 383,
            drift_score=0.9 if number == 0 else 0.1,
            success=number % 3 > 0,
        )
        for number in range(count)
    ]


@pytest.fixture
def daemon_seen(database: Database) -> Iterator[PostgresUrl]:
    """Dagster's database, with a daemon's heartbeat that the door may read."""
    url = database.platform.with_database(DAGSTER)
    with connect(database.platform.with_database("postgres"), autocommit=True) as admin:
        admin.execute(f"create database {DAGSTER}")  # type: ignore[arg-type]
        with connect(url) as dagster:
            dagster.execute("create table daemon_heartbeats (timestamp timestamp)")
            dagster.execute("insert into daemon_heartbeats values (now())")
            dagster.execute("grant select on daemon_heartbeats to tidemark_api")
        yield url
        admin.execute(f"drop database {DAGSTER} with (force)")  # type: ignore[arg-type]


@contextmanager
def _gateway(address: PostgresUrl) -> Iterator[str]:
    """`python -m gateway` with this address as its TIDEMARK_DATABASE_URL."""
    port = free_port()
    own = {
        "TIDEMARK_DATABASE_URL": address.libpq(),
        "TIDEMARK_DAGSTER_DATABASE_URL": address.with_database(DAGSTER).libpq(),
        "TIDEMARK_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    with gateway_process(port, own) as child:
        until(lambda: child.poll() is not None or _is_listening(port))
        assert child.poll() is None, "the gateway did not start"
        yield f"http://127.0.0.1:{port}"


def _is_listening(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code > 0
    except httpx.TransportError:
        return False


class Walk:
    """Goes through the door's routes as one tenant, and remembers how each answered.

    Attributes:
        answered: by operation, as OpenAPI has it: status and what its JSON is made of, a pair for each time.
    """

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=30)
        self.answered: dict[str, list[tuple[int, object]]] = {}

    def __call__(self, operation: str, *, query: Mapping[str, Any] | None = None, **given: Any) -> Any:
        """Ask; names of path parameters go in `path`, the rest is httpx's. Returns the answer's JSON, if it is any."""
        method, _, path = operation.partition(" ")
        path = path.format(**given.pop("path", {}))
        answer = self._client.request(method, path, params=query, **given)
        is_json = answer.headers.get("content-type", "").endswith("json")
        document = answer.json() if is_json else None
        self.answered.setdefault(operation, []).append((answer.status_code, _shape(document)))
        assert answer.status_code < 500, (operation, answer.text)
        return document


def _shape(value: object) -> object:
    """What a document is made of, without what differs from time to time."""
    if isinstance(value, dict):
        return {name: _shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_shape(member) for member in value]
    return value if isinstance(value, bool) or value is None else type(value).__name__


def _push_everything(walk: Walk) -> None:
    push = "POST /v1/evaluations"
    lines = b"\n".join(map(line, _evaluations(30)))
    for _ in range(2):
        walk(push, content=lines, headers=NDJSON | {"Idempotency-Key": "first"})
    # A duplicate, a conflict, a reject, a template never seen, a month that nobody has made yet.
    mixed = [_evaluations(1)[0], good(1, drift_score=0.2), {"nonsense": 1}, good(100, template="other")]
    mixed.append(good(101, created_at="2019-03-01T00:00:00Z"))
    walk(push, content=b"\n".join(map(line, mixed)), headers=NDJSON)
    walk(
        "POST /v1/feedback", json=[{"record_id": "good-4", "success": False}, {"record_id": "unseen", "success": True}]
    )
    walk("POST /v1/evaluations/{evaluation_id}/feedback", path={"evaluation_id": uuid4()}, json={"success": True})
    body = request(log(event(1)), log(event(2, tidemark__colour="red"))).SerializeToString()
    walk("POST /v1/logs", content=body, headers={"Content-Type": "application/x-protobuf"})
    for expected in (2, 3):
        declared = {"expected": expected}
        walk("POST /v1/batches/{batch_key}/manifest", path={"batch_key": "of/may"}, json=declared)


def _read_and_administer(walk: Walk) -> None:
    newest = walk("GET /v1/evaluations", query={"template": "invoice"})["data"][0]
    path = {"evaluation_id": newest["evaluation_id"]}
    walk("GET /v1/evaluations/{evaluation_id}", path=path)
    walk("GET /v1/evaluations/{evaluation_id}/nearest", path=path)
    walk("GET /v1/evaluations/{evaluation_id}", path={"evaluation_id": uuid4()})
    for mode in ("best", "sample"):
        walk("GET /v1/recommendations", query={"template": "invoice", "mode": mode})
    for name in ("overview", "templates", "drift-trends", "extractors", "alerts"):
        walk(f"GET /v1/dashboard/{name}")

    webhook = walk("POST /v1/webhooks", json={"url": WEBHOOK, "ed25519": True})
    own = {"webhook_id": webhook["webhook_id"]}
    walk("GET /v1/webhooks")
    walk("GET /v1/webhooks/{webhook_id}", path=own)
    walk("PATCH /v1/webhooks/{webhook_id}", path=own, json={"status": "paused", "url": f"{WEBHOOK}s"})
    walk("PATCH /v1/webhooks/{webhook_id}", path=own, json={"status": "active", "event_types": ["drift_high"]})
    walk("POST /v1/webhooks/{webhook_id}/rotate", path=own)
    queued = walk("POST /v1/webhooks/{webhook_id}/test", path=own)
    walk("GET /v1/webhooks/{webhook_id}/deliveries", path=own)
    walk("GET /v1/webhooks/deliveries", query={"event_type": "webhook_test"})
    walk("POST /v1/webhooks/deliveries/{delivery_id}/replay", path={"delivery_id": queued["delivery_id"]})
    walk("POST /v1/webhooks/deliveries/replay", json={"state": "delivered", "key": "once"})

    alert = walk("GET /v1/alerts", query={"status": "firing", "event_type": "drift_high"})["data"][0]
    walk("POST /v1/alerts/{alert_id}/ack", path={"alert_id": alert["alert_id"]}, json={"by": "ann"})
    # Tells the endpoint, too.
    walk("POST /v1/alerts/{alert_id}/resolve", path={"alert_id": alert["alert_id"]})
    walk("GET /v1/webhooks/{webhook_id}/deliveries", path=own)
    ends_at = (Clock().now() + timedelta(hours=1)).isoformat()
    silence = walk("POST /v1/silences", json={"matchers": [{"name": "template", "value": "x"}], "ends_at": ends_at})
    walk("GET /v1/silences")
    walk("GET /v1/silences/{silence_id}/suppressed", path={"silence_id": silence["silence_id"]})
    walk("DELETE /v1/silences/{silence_id}", path={"silence_id": silence["silence_id"]})
    matchers = {
        f"{side}_matchers": [{"name": "event_type", "value": event_type}]
        for side, event_type in (("source", "drift_high"), ("target", "decision_review"))
    }
    inhibition = walk("POST /v1/inhibitions", json=matchers | {"equal": ["template"]})
    walk("GET /v1/inhibitions")
    walk("DELETE /v1/inhibitions/{inhibition_id}", path={"inhibition_id": inhibition["inhibition_id"]})
    walk("PUT /v1/notification-policy", json={"group_by": ["template"]})
    walk("GET /v1/notification-policy")
    walk("DELETE /v1/notification-policy")
    walk("DELETE /v1/webhooks/{webhook_id}", path=own)
    walk("GET /health")
    walk("GET /metrics")


def test_the_door_with_its_own_login_answers_on_every_route_as_with_the_owners(
    logins: dict[str, PostgresUrl], database: Database, connection: Connection, daemon_seen: PostgresUrl
) -> None:
    whole = replace(database, dagster=daemon_seen)
    with (
        serving(whole, options=DoorOptions(webhook_networks=LOOPBACK)) as door,
        _gateway(logins["tidemark_api"]) as url,
    ):
        walks = {}
        for tenant, base_url in {"owner": str(door.base_url), "api": url}.items():
            create_tenant(connection, tenant)
            set_monthly_limit(connection, tenant, 1000)
            _, key = create_key(connection, tenant, SCOPES, now=Clock().now())
            walks[tenant] = Walk(base_url, key)
            _push_everything(walks[tenant])
        # What works behind the door: alerts as the owner, marts as dbt's own login.
        scan(connection, Clock().now())
        run_dbt(["run"], replace(database, platform=logins["tidemark_dbt"]))
        for tenant in walks:
            plant_recommendation(connection, tenant, "invoice", [arm("acme", "model-1", 9, 1)])
        for tenant, walk in walks.items():
            _read_and_administer(walk)
            set_monthly_limit(connection, tenant, 0)
            walk("POST /v1/evaluations", json=good("beyond"))
        documented = httpx.get(f"{url}/openapi.json").json()["paths"]

    operations = {f"{method.upper()} {path}" for path, methods in documented.items() for method in methods}
    assert set(walks["api"].answered) == operations
    assert walks["api"].answered == walks["owner"].answered
    for operation, answers in walks["api"].answered.items():
        assert 200 <= answers[0][0] < 300, operation
    [(_, health)] = walks["api"].answered["GET /health"]
    assert health["checks"]["daemon_seen_at"] == "str"  # type: ignore[index]
    used = connection.execute(
        "select tenant_id from access.api_keys where last_used_at is not null order by 1"
    ).fetchall()
    assert used == [("api",), ("owner",)]


def test_a_host_that_only_pushes_needs_no_other_login(
    logins: dict[str, PostgresUrl], connection: Connection, tenant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_DATABASE_URL", logins["tidemark_ingest"].libpq())
    # Nor has it to know Dagster's database.
    elsewhere = logins["tidemark_ingest"].with_database("somewhere_else")
    monkeypatch.setenv("TIDEMARK_DAGSTER_DATABASE_URL", elsewhere.libpq())
    monkeypatch.setenv("TIDEMARK_DROP_FOLDER", str(tmp_path / "drop"))
    pushed, dropped = tmp_path / "pushed.ndjson", tmp_path / "drop" / tenant / "dropped.ndjson"
    dropped.parent.mkdir(parents=True)
    pushed.write_bytes(b"\n".join(line(good(number)) for number in range(10)))
    # A duplicate, a conflict, a reject, a month that nobody has made yet, the rest new.
    dropped.write_bytes(
        b"\n".join(
            map(line, [good(0), good(1, template="x"), {}, good(10, created_at="2019-03-01T00:00:00Z"), good(11)])
        )
    )
    feedback = tmp_path / "feedback.ndjson"
    feedback.write_text(json.dumps({"record_id": "good-1", "success": True}))
    assert _said("push", pushed, "--tenant", tenant) == (0, (10, 0, 0, 0))
    assert _said("push", pushed, "--tenant", tenant) == (0, (0, 10, 0, 0))
    assert _said("feedback", feedback, "--tenant", tenant) == (0, (1, 0, 0, 0))
    assert _said("drop", "land") == (1, (2, 1, 1, 1))
    with dropped.open("ab") as file:
        file.write(b"\n" + line(good(12)))
    assert _said("drop", "land") == (1, (3, 1, 1, 1))
    declared = ["manifest", "declare", "--tenant", tenant, "--batch-key", "may", "--expected", "3"]
    assert CliRunner().invoke(app, declared, catch_exceptions=False).exit_code == 0
    listed = CliRunner().invoke(app, ["drop", "list", "--json"], catch_exceptions=False)
    assert [file["state"] for file in json.loads(listed.stdout)] == ["landed"]
    assert connection.execute("select count(*), count(distinct record_id) from raw.evaluations").fetchone() == (13, 13)


def test_what_its_login_may_not_do_is_told_without_a_traceback(
    logins: dict[str, PostgresUrl], tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_DATABASE_URL", logins["tidemark_ingest"].libpq())
    command = [sys.executable, "-m", "orchestration.cli", "rejects", "replay", "--tenant", tenant]
    ended = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    told = ended.stderr.strip()
    assert "\n" not in told
    assert told.startswith("tidemark: this login of PostgreSQL may not do that (permission denied for table rejected_")


def _said(*arguments: object) -> tuple[int, tuple[int, ...]]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    document = json.loads(result.stdout)
    (report,) = document["files"] if isinstance(document, dict) else document
    return result.exit_code, tuple(report[name] for name in ("accepted", "duplicates", "conflicts", "rejected"))


def test_a_database_that_a_login_may_not_create_is_told_with_the_remedy(logins: dict[str, PostgresUrl]) -> None:
    with pytest.raises(DatabaseUnavailableError, match=r"no database 'nowhere'.*tidemark migrate.*superuser"):
        create_if_missing(logins["tidemark_ingest"].with_database("nowhere"))
