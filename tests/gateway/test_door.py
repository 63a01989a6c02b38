"""The door: keys and scopes, problem documents, health, and what happens while the database is away."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from delivering import SetClock
from door import problem, serving

from gateway.keyring import REMEMBERED
from storage.api_keys import create_key, revoke_key, rotate_key
from storage.database import Connection, Database, connect
from storage.embedded import start_embedded, stop_embedded
from storage.key_texts import KeyText
from storage.migrate import migrate
from storage.tenants import create_tenant

PATH = "/v1/dashboard/overview"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def client(database: Database, clock: SetClock) -> Iterator[httpx.Client]:
    with serving(database, clock) as client:
        yield client


def _passes(client: httpx.Client, key: str) -> bool:
    """Whether the key opens the route; there are no marts here, and the door says so to those it lets in."""
    answer = client.get(PATH, headers={"X-API-Key": key})
    assert answer.status_code in (401, 503), answer.text
    return answer.status_code == 503


def test_without_a_key_of_ours_nothing_is_told(
    client: httpx.Client, connection: Connection, tenant: str, clock: SetClock
) -> None:
    key, text = create_key(connection, tenant, ["read"], now=clock.now())
    mistyped = text[:25] + ("a" if text[25] != "a" else "b") + text[26:]
    refused = {
        "": "X-API-Key",
        "tm_live_short": "no key",
        "tm_live_\u00e9": "no key",
        text + " x": "no key",
        mistyped: "checksum",
        KeyText.make().whole: "not known",
        KeyText(key.key_id, KeyText.make().secret).whole: "not known",
    }
    for presented, reason in refused.items():
        headers = {b"X-API-Key": presented.encode("latin-1")} if presented else {}
        answer = client.get(PATH, headers=headers)
        document = problem(answer, 401)
        assert reason in str(document["detail"])
        assert answer.headers["www-authenticate"].startswith("ApiKey ")
        assert not presented or presented not in answer.text
    assert _passes(client, text)


def test_a_key_without_the_scope_is_told_which_it_lacks(
    client: httpx.Client, connection: Connection, tenant: str, clock: SetClock
) -> None:
    _, text = create_key(connection, tenant, ["ingest", "admin"], now=clock.now())
    document = problem(client.get(PATH, headers={"X-API-Key": text}), 403)
    assert document["missing_scope"] == "read"
    assert "scope read" in str(document["detail"])


def test_a_revocation_is_seen_within_five_seconds_and_an_expiry_at_once(
    client: httpx.Client, connection: Connection, tenant: str, clock: SetClock
) -> None:
    key, revoked = create_key(connection, tenant, ["read"], now=clock.now())
    _, short = create_key(connection, tenant, ["read"], now=clock.now(), lifetime=timedelta(seconds=1))
    assert _passes(client, revoked)
    assert _passes(client, short)
    revoke_key(connection, tenant, key.key_id, now=clock.now())
    assert timedelta(seconds=5) > REMEMBERED
    clock.move(seconds=1)
    assert not _passes(client, short)
    clock.move(seconds=REMEMBERED.total_seconds())
    assert "revoked" in str(problem(client.get(PATH, headers={"X-API-Key": revoked}), 401)["detail"])


def test_a_rotated_key_and_its_successor_both_open_until_the_overlap_ends(
    client: httpx.Client, connection: Connection, tenant: str, clock: SetClock
) -> None:
    key, old = create_key(connection, tenant, ["read"], now=clock.now())
    _, new, _ = rotate_key(connection, tenant, key.key_id, now=clock.now(), overlap=timedelta(hours=1))
    clock.move(minutes=59)
    assert _passes(client, old)
    assert _passes(client, new)
    clock.move(minutes=1)
    assert not _passes(client, old)
    assert _passes(client, new)


def test_what_is_not_there_or_not_possible_is_a_problem_document_too(client: httpx.Client) -> None:
    problem(client.get("/v1/dashboard/nothing"), 404)
    problem(client.get("/v1/dashboard/overview/"), 404)
    answer = client.delete(PATH)
    problem(answer, 405)
    assert answer.headers["allow"] == "GET"


def test_marts_that_are_not_built_are_said_to_want_a_refresh(
    client: httpx.Client, connection: Connection, tenant: str, clock: SetClock
) -> None:
    _, text = create_key(connection, tenant, ["read"], now=clock.now())
    answer = client.get(PATH, headers={"X-API-Key": text})
    assert "tidemark refresh" in str(problem(answer, 503)["detail"])
    assert int(answer.headers["retry-after"]) > 0
    assert client.get("/health").json()["checks"]["marts"] == "not built yet: run `tidemark refresh`"


def test_health_tells_of_a_schema_that_is_another_versions(client: httpx.Client, connection: Connection) -> None:
    assert client.get("/health").json()["checks"]["schema"] == "ok"
    connection.execute("drop table intermediate.marks")
    connection.execute("update public.alembic_version set version_num = '0000'")
    assert "tidemark migrate" in str(problem(client.get("/health"), 503)["detail"])
    connection.execute("drop table public.alembic_version")
    problem(client.get("/health"), 503)


def test_a_statement_that_takes_too_long_is_given_up_and_may_be_sent_again(
    client: httpx.Client, connection: Connection, tenant: str, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.pages.STATEMENT_TIMEOUT", timedelta(milliseconds=50))
    _, text = create_key(connection, tenant, ["read"], now=clock.now())
    connection.execute("create table marts.overview (tenant_id text)")
    with connection.transaction():
        connection.execute("lock table marts.overview")
        answer = client.get(PATH, headers={"X-API-Key": text})
    assert "50 ms" in str(problem(answer, 503)["detail"])
    assert "retry-after" in answer.headers


def test_our_own_fault_is_a_problem_document_without_its_reason(
    client: httpx.Client, connection: Connection, tenant: str, clock: SetClock
) -> None:
    _, text = create_key(connection, tenant, ["read"], now=clock.now())
    connection.execute("alter table access.api_keys rename to elsewhere")
    answer = client.get(PATH, headers={"X-API-Key": text})
    problem(answer, 500)
    assert "elsewhere" not in answer.text
    assert "api_keys" not in answer.text


def test_a_stopped_database_is_503_and_the_door_recovers_with_it(clock: SetClock, server_folder: Path) -> None:
    data = server_folder / "postgres"
    url = start_embedded(data)
    with connect(url.with_database("postgres"), autocommit=True) as admin:
        admin.execute("create database tidemark")
    migrate(url)
    with connect(url) as connection:
        create_tenant(connection, "acme")
        _, text = create_key(connection, "acme", ["read"], now=clock.now())
    with serving(Database(url, url.with_database("dagster")), clock) as client:
        assert _passes(client, text)
        stop_embedded(data)
        clock.move(seconds=REMEMBERED.total_seconds())
        for path in (PATH, "/health"):
            answer = client.get(path, headers={"X-API-Key": text})
            problem(answer, 503)
            assert "retry-after" in answer.headers
            assert "Traceback" not in answer.text
        start_embedded(data)
        # As often as a client that keeps to Retry-After would try within half a minute.
        assert 200 in [client.get("/health").status_code for _ in range(5)]
        assert "tidemark refresh" in client.get(PATH, headers={"X-API-Key": text}).text
    stop_embedded(data)
