"""Running the door: limits by month, metrics, who may see them, correlation ids and the one line a request."""

import io
import json
import re
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network

import httpx
import pytest
import structlog
from cryptography.fernet import Fernet
from delivering import SetClock, register, send
from door import problem, serving
from poison import good, line
from receiver import receiving
from starlette.requests import Request

from gateway.keyring import Keyring, guard
from gateway.networks import is_near
from gateway.observation import Notes
from gateway.options import DoorOptions, Network
from gateway.problems import ProblemError
from sensors.alerts.scan import scan
from sensors.webhooks.deliveries import Selection, list_deliveries
from storage.api_keys import Scope, create_key, revoke_key
from storage.clock import Clock
from storage.database import Connection, Database
from storage.key_texts import KeyText
from storage.limits import monthly_usage, set_monthly_limit
from storage.pool import connection_pool
from storage.secrets import SecretBox
from storage.tenants import create_tenant

PATH = "/v1/evaluations"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def client(database: Database, connection: Connection, tenant: str, clock: SetClock) -> Iterator[httpx.Client]:
    _, text = create_key(connection, tenant, ["ingest"], now=Clock().now())
    with serving(database, clock) as client:
        client.headers.update({"X-API-Key": text, "Content-Type": "application/x-ndjson"})
        yield client


@pytest.fixture
def box() -> SecretBox:
    return SecretBox([Fernet.generate_key().decode()])


def ndjson(*records: object) -> bytes:
    return b"\n".join(line(record) for record in records)


def samples(client: httpx.Client) -> dict[str, float]:
    answer = client.get("/metrics", headers={"X-API-Key": ""})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    rows = [row.rsplit(" ", 1) for row in answer.text.splitlines() if not row.startswith("#")]
    return {name: float(value) for name, value in rows}


def test_a_month_that_is_full_is_429_until_its_end_and_for_its_tenant_alone(
    client: httpx.Client, connection: Connection
) -> None:
    set_monthly_limit(connection, "acme", 3)
    assert client.post(PATH, content=ndjson(good(1), good(2), {})).status_code == 207
    assert client.post(PATH, content=ndjson(good(1), good(3), good(4))).json()["accepted"] == 2
    assert monthly_usage(connection, "acme").accepted == 4
    refused = client.post(PATH, content=ndjson(good(5)))
    document = problem(refused, 429)
    assert (document["limit"], document["accepted"]) == (3, 4)
    assert 0 < int(refused.headers["retry-after"]) <= 31 * 86_400
    assert connection.execute("select count(*) from raw.evaluations").fetchone() == (4,)

    create_tenant(connection, "other")
    _, text = create_key(connection, "other", ["ingest"], now=Clock().now())
    assert client.post(PATH, content=ndjson(good(1)), headers={"X-API-Key": text}).status_code == 200
    # Last month's records count for last month.
    connection.execute("update access.tenant_usage_counters set month = month - interval '1 month'")
    assert client.post(PATH, content=ndjson(good(5))).status_code == 200
    set_monthly_limit(connection, "acme", 0)
    problem(client.post(PATH, content=ndjson(good(6))), 429)
    set_monthly_limit(connection, "acme", None)
    assert client.post(PATH, content=ndjson(good(6))).status_code == 200
    audited = connection.execute("select detail from access.audit_log where action = 'tenant.limit' order by at")
    assert [row[0]["records_a_month"] for row in audited] == [3, 0, None]


def test_a_tenant_that_pushes_too_fast_waits_as_long_as_its_records_take(
    database: Database, connection: Connection, tenant: str, clock: SetClock
) -> None:
    keys = {}
    for name in (tenant, "other"):
        create_tenant(connection, name)
        keys[name] = {"X-API-Key": create_key(connection, name, ["ingest"], now=Clock().now())[1]}
    with serving(database, clock, DoorOptions(records_a_second=10)) as client:
        batch = [good(number) for number in range(25)]
        assert client.post(PATH, json=batch, headers=keys[tenant]).status_code == 200
        refused = client.post(PATH, json=batch, headers=keys[tenant])
        assert problem(refused, 429)["records_a_second"] == 10
        assert refused.headers["retry-after"] == "3"
        assert client.post(PATH, json=batch, headers=keys["other"]).status_code == 200
        clock.move(seconds=3)
        assert client.post(PATH, json=batch, headers=keys[tenant]).json()["duplicates"] == 25


def test_metrics_tell_what_went_through_and_what_waits_and_name_no_tenant(
    client: httpx.Client, connection: Connection, clock: SetClock
) -> None:
    client.post(PATH, content=ndjson(good(1), good(1), {}))
    client.post(PATH, content=ndjson(good(2)))
    client.post(f"{PATH}/{uuid.uuid4()}/feedback", content=ndjson({"success": True}))
    client.get(f"/{uuid.uuid4()}")
    client.request("PROPFIND", PATH)
    told = samples(client)
    verdicts = {
        verdict: told[f'tidemark_records_total{{door="http",kind="evaluations",verdict="{verdict}"}}']
        for verdict in ("accepted", "duplicate", "conflict", "rejected")
    }
    assert verdicts == {"accepted": 2, "duplicate": 1, "conflict": 0, "rejected": 1}
    assert told['tidemark_batch_records_bucket{door="http",kind="evaluations",le="1.0"}'] == 1
    seconds = "tidemark_request_seconds_count"
    assert told[f'{seconds}{{method="POST",route="/v1/evaluations",status="207"}}'] == 1
    assert told[f'{seconds}{{method="POST",route="/v1/evaluations/{{evaluation_id}}/feedback",status="200"}}'] == 1
    assert told[f'{seconds}{{method="GET",route="unmatched",status="404"}}'] == 1
    assert any('method="other"' in name for name in told)
    assert told["tidemark_database_up"] == 1
    assert told["tidemark_backlog_batches"] == 2
    assert told["tidemark_backlog_age_seconds"] > 0
    assert "acme" not in client.get("/metrics").text

    connection.execute("insert into alerting.positions values ('alerts', (pg_current_xact_id()::text)::xid8)")
    assert samples(client)["tidemark_backlog_batches"] == 2
    clock.move(seconds=5)
    told = samples(client)
    assert (told["tidemark_backlog_batches"], told["tidemark_backlog_age_seconds"]) == (0, 0)
    checks = client.get("/health").json()["checks"]
    assert checks["backlog_batches"] == 0
    assert checks["dispatcher_seen_at"] is None


def test_a_forwarded_request_for_metrics_finds_nothing(client: httpx.Client) -> None:
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        problem(client.get("/metrics", headers={name: "127.0.0.1"}), 404)
    assert client.get("/health", headers={"X-Forwarded-For": "198.51.100.7"}).status_code == 200


@pytest.mark.parametrize(
    ("peer", "headers", "near"),
    [
        ("127.0.0.1", {}, True),
        ("127.9.9.9", {}, True),
        ("::1", {}, True),
        ("::ffff:127.0.0.1", {}, True),
        ("10.1.2.3", {}, True),
        ("::ffff:10.1.2.3", {}, True),
        ("11.1.2.3", {}, False),
        ("2001:db8::1", {}, False),
        ("10.1.2.3", {"x-forwarded-for": "10.1.2.3"}, False),
        ("testclient", {}, False),
        (None, {}, False),
    ],
)
def test_the_peer_alone_tells_who_is_near(peer: str | None, headers: dict[str, str], near: bool) -> None:
    networks: list[Network] = [ip_network("10.0.0.0/8")]
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "headers": raw, "client": None if peer is None else (peer, 1)})
    assert is_near(request, networks) is near


def test_admin_networks_close_administration_to_others_and_nothing_else(
    database: Database, connection: Connection, tenant: str
) -> None:
    _, text = create_key(connection, tenant, ["admin", "read"], now=Clock().now())
    networks = (ip_network("10.0.0.0/8"),)

    def ask(scope: Scope, peer: str, allowed: tuple[Network, ...]) -> bool:
        request = Request({"type": "http", "headers": [], "client": (peer, 1), "tidemark.notes": Notes("id")})
        try:
            return guard(keyring, scope, allowed)(request, text).tenant_id == tenant
        except ProblemError:
            return False

    with connection_pool(database.platform) as pool:
        keyring = Keyring(pool, Clock())
        assert ask("admin", "203.0.113.9", ())
        assert not ask("admin", "203.0.113.9", networks)
        assert ask("admin", "10.1.1.1", networks)
        assert ask("admin", "127.0.0.1", networks)
        assert ask("read", "203.0.113.9", networks)


def test_each_request_is_one_line_that_a_correlation_id_finds_and_no_secret_is_in_it(
    client: httpx.Client,
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    log = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
    key = client.headers["X-API-Key"]
    asked = [
        ({"X-Correlation-ID": "job-7"}, "job-7"),
        ({"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}, trace),
        ({"X-Correlation-ID": "job-8", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}, "job-8"),
        ({"X-Correlation-ID": "a b"}, None),
        ({"X-Correlation-ID": "x" * 129}, None),
        ({"traceparent": "00-" + "0" * 32 + "-00f067aa0ba902b7-01"}, None),
        ({}, None),
    ]
    echoed = []
    for headers, expected in asked:
        answer = client.post(f"{PATH}?key={key}", content=ndjson(good(1), {}), headers=headers)
        echoed.append(answer.headers["x-correlation-id"])
        assert expected is None or echoed[-1] == expected
        assert expected is not None or re.fullmatch(r"[0-9a-f]{32}", echoed[-1])
    # A request's line is written after its answer was sent.
    while log.getvalue().count("\n") < len(asked):
        pass
    logged = [json.loads(row) for row in log.getvalue().splitlines()]
    assert [row["correlation_id"] for row in logged] == echoed
    assert {name: logged[0][name] for name in ("event", "method", "route", "status", "tenant", "door")} == {
        "event": "request",
        "method": "POST",
        "route": PATH,
        "status": 207,
        "tenant": "acme",
        "door": "http",
    }
    assert (logged[0]["accepted"], logged[0]["rejected"]) == (1, 1)
    assert logged[0]["bytes"] == len(ndjson(good(1), {}))
    assert uuid.UUID(logged[0]["batch_id"])
    assert logged[0]["key_id"] == key.split("_")[2]
    log.truncate(0)
    for wrong in (key[:-1] + ("a" if key[-1] != "a" else "b"), KeyText.make().whole):
        assert client.post(PATH, content=b"{}", headers={"X-API-Key": wrong}).status_code == 401
        assert wrong not in log.getvalue()
    while log.getvalue().count("\n") < 2:
        pass
    mistyped, unknown = [json.loads(row) for row in log.getvalue().strip("\0").splitlines()]
    assert (mistyped.get("key_id"), "checksum" in mistyped["refused"]) == (None, True)
    assert (len(unknown["key_id"]), bool(unknown["refused"])) == (12, True)
    assert key not in log.getvalue()


def test_a_manifest_is_stored_and_the_newest_stands(client: httpx.Client, connection: Connection) -> None:
    path = "/v1/batches/2026/05/01 é/manifest"
    first = client.post(path, json={"expected": 3}, headers={"Content-Type": "application/json"})
    assert first.status_code == 200
    assert first.json() | {"declared_at": None} == {
        "batch_key": "2026/05/01 é",
        "expected": 3,
        "checksum": None,
        "declared_at": None,
    }
    as_json = {"Content-Type": "application/json"}
    assert client.post(path, json={"expected": 3}, headers=as_json).json() == first.json()
    changed = client.post(path, json={"expected": 4, "checksum": "abc"}, headers=as_json).json()
    assert (changed["expected"], changed["checksum"]) == (4, "abc")
    assert changed["declared_at"] > first.json()["declared_at"]
    assert connection.execute("select batch_key, expected, checksum from raw.batch_manifests").fetchall() == [
        ("2026/05/01 é", 4, "abc")
    ]
    refused: list[tuple[bytes, dict[str, str], int, str]] = [
        (b'{"expected": -1}', as_json, 422, "expected"),
        (b'{"expected": true}', as_json, 422, "expected"),
        (b'{"expected": "3"}', as_json, 422, "expected"),
        (b"{}", as_json, 422, "expected"),
        (b'{"expected": 3, "colour": "red"}', as_json, 422, "colour"),
        (b'{"expected": 9223372036854775808}', as_json, 422, "expected"),
        (b'{"expected": 3, "checksum": "a\\u0000"}', as_json, 422, "checksum"),
        (b"[]", as_json, 422, "body"),
        (b'{"expected": 3', as_json, 400, "JSON"),
        (b'{"expected": 3}', {"Content-Type": "text/plain"}, 415, "application/json"),
        (b" " * 70_000, as_json, 413, "65536"),
    ]
    for content, headers, status, reason in refused:
        document = problem(client.post(path, content=content, headers=headers), status)
        assert reason in str(document["detail"]), document
    problem(client.post("/v1/batches/a%00b/manifest", json={"expected": 1}, headers=as_json), 422)
    problem(client.post(f"/v1/batches/{'x' * 201}/manifest", json={"expected": 1}, headers=as_json), 422)


def test_batches_at_once_do_not_pass_the_monthly_limit_together(
    client: httpx.Client, database: Database, connection: Connection
) -> None:
    set_monthly_limit(connection, "acme", 2)
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    with ThreadPoolExecutor(4) as pool:
        with database.connect() as holder:
            holder.execute("lock table raw.evaluations in access exclusive mode")
            pushes = [pool.submit(client.post, PATH, content=ndjson(good(2 * n), good(2 * n + 1))) for n in range(4)]
            while connection.execute(waiting).fetchone() != (4,):
                pass
        assert sorted(push.result().status_code for push in pushes) == [200, 429, 429, 429]
    assert monthly_usage(connection, "acme").accepted == 2


def test_a_key_that_is_revoked_while_its_body_drips_in_lands_nothing(
    client: httpx.Client, connection: Connection, clock: SetClock
) -> None:
    content = ndjson(good(1))
    for path, media in ((PATH, "application/x-ndjson"), ("/v1/logs", "application/json")):
        key, text = create_key(connection, "acme", ["ingest"], now=clock.now())
        address = (client.base_url.host, client.base_url.port or 80)
        with socket.create_connection(address, timeout=10) as raw:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {text}\r\nContent-Type: {media}\r\n"
            raw.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[:9])
            used = "select last_used_at is not null from access.api_keys where key_id = %s"
            while connection.execute(used, (key.key_id,)).fetchone() != (True,):
                pass
            revoke_key(connection, "acme", key.key_id, now=clock.now())
            clock.move(seconds=5)
            time.sleep(1.1)
            raw.sendall(content[9:])
            assert raw.recv(20).startswith(b"HTTP/1.1 401")
    assert connection.execute("select count(*) from raw.evaluations").fetchone() == (0,)


def test_one_correlation_id_leads_from_the_request_s_log_to_the_webhook_s(
    client: httpx.Client, database: Database, connection: Connection, clock: SetClock, box: SecretBox
) -> None:
    log = io.StringIO()
    with receiving() as receiver:
        webhook, _ = register(connection, box, "acme", receiver.url, clock)
        now = clock.now().isoformat()
        high = [
            good(1, drift_score=0.9, created_at=now),
            good(2, drift_score=0.95, correlation_id="own \u00e9", created_at=now),
        ]
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
        for number, record in enumerate(high):
            asked = {"X-Correlation-ID": f"job-{number}"}
            assert (
                client.post(PATH, content=ndjson(record | {"template": f"t{number}"}), headers=asked).status_code == 200
            )
        scan(connection, clock.now())
        assert send(database, box, clock).delivered == 4
        requests = list(receiver.requests)
    receipts = connection.execute("select correlation_id from raw.ingest_batches order by 1").fetchall()
    alerts = connection.execute("select distinct correlation_id from alerting.alerts order by 1").fetchall()
    assert (receipts, alerts) == ([("job-0",), ("job-1",)], [("job-0",), ("own \u00e9",)])
    listed = {
        (row["alert_id"], row["correlation_id"]) for row in list_deliveries(connection, "acme", Selection(webhook))
    }
    assert listed == set(connection.execute("select alert_id, correlation_id from alerting.alerts"))
    told = {json.loads(request.body)["correlation_id"]: request.headers.get("x-correlation-id") for request in requests}
    assert told == {"job-0": "job-0", "own \u00e9": None}
    rows = [json.loads(row) for row in log.getvalue().splitlines()]
    delivered = {row["correlation_id"] for row in rows if row["event"] == "webhook delivery"}
    assert delivered == set(told)
    assert {row["correlation_id"] for row in rows if row["event"] == "request"} >= {"job-0"}
