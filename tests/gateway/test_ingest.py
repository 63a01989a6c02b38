"""Pushing over HTTP: every form of a body, a verdict on each record, limits, and what is refused lands nothing."""

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx
import pytest
from door import problem, serving
from hypothesis import given
from hypothesis import strategies as st
from poison import good, line

from assets.evaluations.replay import replay
from gateway.bodies import MOST_BYTES, MOST_RECORDS
from gateway.options import DoorOptions
from gateway.problems import ProblemError
from gateway.record_lines import JSON, split_records
from storage.api_keys import create_key
from storage.clock import Clock
from storage.database import Connection, Database
from storage.tenants import create_tenant

PATH = "/v1/evaluations"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def client(database: Database, connection: Connection, tenant: str) -> Iterator[httpx.Client]:
    _, text = create_key(connection, tenant, ["ingest"], now=Clock().now())
    with serving(database) as client:
        client.headers["X-API-Key"] = text
        yield client


def ndjson(*records: object) -> bytes:
    return b"".join(line(record) + b"\n" for record in records)


def count(connection: Connection, table: str = "raw.evaluations") -> int:
    row = connection.execute(f"select count(*) from {table}").fetchone()  # type: ignore[arg-type]  # noqa: S608
    return int(row[0]) if row else -1


def test_each_record_gets_its_verdict_and_the_status_sums_them_up(client: httpx.Client, connection: Connection) -> None:
    mixed = [good(1), good(2), good(2, drift_score=0.2), good(3, drift_score="high"), good(1)]
    answer = client.post(PATH, content=ndjson(*mixed), headers=NDJSON)
    assert answer.status_code == 207
    body = answer.json()
    assert [body[name] for name in ("accepted", "duplicates", "conflicts", "rejected")] == [2, 1, 1, 1]
    named = [[error[name] for name in ("line", "record_id", "verdict", "field")] for error in body["errors"]]
    ids = [str(record["record_id"]) for record in mixed]
    assert named == [[3, ids[2], "conflict", "record_id"], [4, ids[3], "rejected", "drift_score"]]
    receipt = connection.execute(
        "select accepted, duplicates, conflicts, rejected, door from raw.ingest_batches where batch_id = %s",
        (body["batch_id"],),
    ).fetchone()
    assert receipt == (2, 1, 1, 1, "http")

    again = client.post(PATH, content=ndjson(good(1), good(2)), headers=NDJSON)
    assert (again.status_code, again.json()["duplicates"]) == (200, 2)
    none = client.post(PATH, content=ndjson({}, []), headers=NDJSON)
    assert (none.status_code, none.json()["rejected"]) == (422, 2)
    assert none.headers["content-type"] == "application/json"
    many = client.post(PATH, content=b"{}\n" * 150, headers=NDJSON).json()
    assert (many["rejected"], len(many["errors"])) == (150, 100)


@pytest.mark.parametrize(
    "kind", ["ndjson", "crlf", "bom", "blanks", "no newline", "array", "object", "chunked", "gzip"]
)
def test_every_form_of_a_body_lands_its_records(client: httpx.Client, connection: Connection, kind: str) -> None:
    first, second = line(good(1, template='Ünï, [{"\\')), line(good(2))
    array = b" [ " + first + b" ,\r\n" + second + b"]\n"
    lines = first + b"\n" + second + b"\n"
    packed = gzip.compress(lines[:50]) + gzip.compress(lines[50:])
    forms: dict[str, tuple[object, dict[str, str]]] = {
        "ndjson": (lines, NDJSON),
        "crlf": (first + b"\r\n" + second + b"\r\n", {"Content-Type": 'application/jsonlines; charset="UTF-8"'}),
        "bom": (b"\xef\xbb\xbf" + lines, NDJSON),
        "blanks": (b"\n \t\r\n" * 3000 + first + b"\n\n\n" + second + b"\n\n ", NDJSON),
        "no newline": (first + b"\n" + second, {"Content-Type": "application/ndjson"}),
        "array": (array, {"Content-Type": JSON}),
        "object": (first, {"Content-Type": "application/json; charset=utf-8"}),
        "chunked": (iter([lines[:10], lines[10:]]), NDJSON),
        "gzip": (packed, NDJSON | {"Content-Encoding": "gzip"}),
    }
    content, headers = forms[kind]
    answer = client.post(PATH, content=content, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == count(connection) == (1 if kind == "object" else 2)


def test_what_can_not_be_a_body_of_records_is_a_problem_and_lands_nothing(
    client: httpx.Client, connection: Connection
) -> None:
    lines = ndjson(good(1), good(2))
    packed = gzip.compress(lines)
    unpackable = NDJSON | {"Content-Encoding": "gzip"}
    refused: list[tuple[bytes, dict[str, str], int, str]] = [
        (b"", NDJSON, 422, "no record"),
        (b"\n \n", NDJSON, 422, "no record"),
        (b"[]", {"Content-Type": JSON}, 422, "no record"),
        (b"", {"Content-Type": JSON}, 422, "no record"),
        (b"[" + line(good(1)) + b",", {"Content-Type": JSON}, 400, f"byte {len(line(good(1))) + 2}"),
        (b"[" + line(good(1)) + b",]", {"Content-Type": JSON}, 400, "no record before it"),
        (b"[{}] []", {"Content-Type": JSON}, 400, "more than one array"),
        (b'[{"a": "b', {"Content-Type": JSON}, 400, "never ends"),
        (b"[{}}", {"Content-Type": JSON}, 400, "closes nothing"),
        (b"[" * MOST_BYTES, {"Content-Type": JSON}, 400, "more brackets"),
        (lines, {"Content-Type": "text/csv"}, 415, "application/x-ndjson"),
        (lines, {}, 415, "application/json"),
        (lines, {"Content-Type": "application/x-ndjson; charset=utf-16"}, 415, "utf-8"),
        (lines, NDJSON | {"Content-Encoding": "br"}, 415, "gzip"),
        (packed, NDJSON, 400, "Content-Encoding: gzip"),
        (lines, {"Content-Type": JSON}, 400, "application/x-ndjson"),
        (packed[:-4], unpackable, 400, "ends too early"),
        (packed[:30] + b"\0\0\0" + packed[33:], unpackable, 400, "corrupt"),
        (packed + b"tail", unpackable, 400, "corrupt"),
        (b"", unpackable, 400, "ends too early"),
        (gzip.compress(b"") * (MOST_RECORDS + 1), unpackable, 400, "members"),
    ]
    for content, headers, status, reason in refused:
        document = problem(client.post(PATH, content=content, headers=headers), status)
        assert reason in str(document["detail"]), document
    assert count(connection, "raw.ingest_batches") == 0


def test_both_limits_are_named_with_what_was_seen_and_hold_without_a_content_length(
    client: httpx.Client, connection: Connection
) -> None:
    bomb = zlib.compressobj(9, wbits=31)
    packed_bomb = b"".join(bomb.compress(b" " * 2**20) for _ in range(64)) + bomb.flush()
    assert len(packed_bomb) < 2**20
    full = b"\n".join(line(good(number)) for number in range(MOST_RECORDS))
    one_more = full + b"\n{}"
    too_large: list[tuple[object, dict[str, str], dict[str, int]]] = [
        (b" " * (MOST_BYTES + 1), NDJSON, {"bytes": MOST_BYTES + 1}),
        ((b" " * 2**20 for _ in range(9)), NDJSON, {"bytes": MOST_BYTES + 2**20}),
        (packed_bomb, NDJSON | {"Content-Encoding": "gzip"}, {"bytes": MOST_BYTES + 1}),
        (one_more, NDJSON, {"records": MOST_RECORDS + 1}),
        (b"[" + one_more.replace(b"\n", b",") + b"]", {"Content-Type": JSON}, {"records": MOST_RECORDS + 1}),
    ]
    for content, headers, seen in too_large:
        document = problem(client.post(PATH, content=content, headers=headers), 413)  # type: ignore[arg-type]
        assert document["limits"] == {"bytes": MOST_BYTES, "records": MOST_RECORDS}
        assert set(document["seen"]) == set(seen)  # type: ignore[call-overload]
        assert str(MOST_BYTES) in str(document["detail"])
        assert str(MOST_RECORDS) in str(document["detail"])
    assert count(connection, "raw.ingest_batches") == 0
    answer = client.post(PATH, content=gzip.compress(full), headers=NDJSON | {"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["accepted"]) == (200, MOST_RECORDS)


def test_feedback_lands_by_its_own_route_or_by_that_of_its_evaluation_even_before_it(
    client: httpx.Client, connection: Connection
) -> None:
    early = uuid4()
    path = f"/v1/evaluations/{early}/feedback"
    assert client.post(path, json={"success": True}).json()["accepted"] == 1
    assert client.post(path, json={"evaluation_id": str(early).upper(), "success": True}).status_code == 200
    assert client.post("/v1/feedback", json=[{"record_id": "good-1", "success": False}]).json()["accepted"] == 1
    stored = connection.execute("select evaluation_id, success from raw.feedback order by received_at").fetchall()
    assert stored[0] == (early, True)
    assert [row[1] for row in stored][-1] is False

    other = client.post(path, json={"evaluation_id": str(uuid4()), "success": True})
    assert (other.status_code, other.json()["errors"][0]["code"]) == (422, "evaluation_reference")
    both = client.post(path, json={"record_id": "good-1", "success": True})
    assert (both.status_code, both.json()["errors"][0]["code"]) == (422, "evaluation_reference")
    assert client.post(path, content=b'{"success":', headers={"Content-Type": JSON}).json()["rejected"] == 1
    kept = {bytes(row[0]) for row in connection.execute("select payload from raw.rejected_records")}
    assert b'{"success":' in kept
    document = problem(client.post("/v1/evaluations/7/feedback", json={"success": True}), 422)
    assert "evaluation_id" in str(document["detail"])


def test_what_one_tenant_pushed_is_no_duplicate_of_another_tenants(
    client: httpx.Client, connection: Connection
) -> None:
    create_tenant(connection, "other")
    _, text = create_key(connection, "other", ["ingest"], now=Clock().now())
    headers = NDJSON | {"Idempotency-Key": "same"}
    mine = client.post(PATH, content=ndjson(good(1)), headers=headers)
    theirs = client.post(PATH, content=ndjson(good(1)), headers=headers | {"X-API-Key": text})
    assert mine.json()["accepted"] == theirs.json()["accepted"] == 1
    assert mine.json()["batch_id"] != theirs.json()["batch_id"]
    tenants = connection.execute("select tenant_id from raw.evaluations order by 1").fetchall()
    assert tenants == [("acme",), ("other",)]
    _, reader = create_key(connection, "other", ["read"], now=Clock().now())
    document = problem(client.post(PATH, content=ndjson(good(2)), headers=NDJSON | {"X-API-Key": reader}), 403)
    assert document["missing_scope"] == "ingest"


def test_a_full_door_sends_away_before_the_body_is_read_and_lets_in_again(
    database: Database, connection: Connection, tenant: str
) -> None:
    _, key = create_key(connection, tenant, ["ingest"], now=Clock().now())
    with serving(database, options=DoorOptions(most_bytes_in_flight=2 * MOST_BYTES)) as client, ExitStack() as stack:
        for held in (1, 2):
            stack.enter_context(_only_the_head(client, key, MOST_BYTES))
            while _in_flight(client) < held * MOST_BYTES:
                pass
        with _only_the_head(client, key, MOST_BYTES) as refused:
            answer = refused.recv(2000).decode()
        assert answer.startswith("HTTP/1.1 503 ")
        assert "retry-after: 1\r\n" in answer
        small = client.post(PATH, content=ndjson(good(1)), headers=NDJSON | {"X-API-Key": key})
        problem(small, 503)
        # Both senders go away; what was held for them is free again.
        stack.close()
        while _in_flight(client):
            pass
        assert client.post(PATH, content=ndjson(good(1)), headers=NDJSON | {"X-API-Key": key}).status_code == 200
    assert count(connection, "raw.ingest_batches") == 1


def test_a_body_that_never_ends_is_given_up_and_its_bytes_are_free_again(
    database: Database, connection: Connection, tenant: str
) -> None:
    _, key = create_key(connection, tenant, ["ingest"], now=Clock().now())
    with serving(database, options=DoorOptions(body_seconds=0.2)) as client:
        with _only_the_head(client, key, 100) as dripping:
            dripping.sendall(b"[")
            assert dripping.recv(2000).startswith(b"HTTP/1.1 408 ")
        assert _in_flight(client) == 0


@contextmanager
def _only_the_head(client: httpx.Client, key: str, length: int) -> Iterator[socket.socket]:
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as raw:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: {JSON}\r\n"
        raw.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
        yield raw


def _in_flight(client: httpx.Client) -> float:
    text = client.get("/metrics").text
    return next(float(row.split()[1]) for row in text.splitlines() if row.startswith("tidemark_in_flight_bytes "))


@given(
    records=st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=8,
        ),
        min_size=1,
        max_size=5,
    ),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
)
def test_the_elements_of_any_array_come_out_as_their_own_bytes(
    records: list[object], ascii_only: bool, indent: int | None
) -> None:
    parts = [json.dumps(record, ensure_ascii=ascii_only, indent=indent).encode(errors="replace") for record in records]
    lines = split_records(b"[" + b" ,\n ".join(parts) + b" ]", JSON)
    assert [(one.number, one.payload) for one in lines] == list(enumerate(parts, start=1))


@given(body=st.binary(max_size=40) | st.text('[]{},":\\ a1', max_size=40).map(str.encode))
def test_no_body_takes_the_splitting_down_and_no_byte_that_means_something_is_lost(body: bytes) -> None:
    for form in (JSON, "application/x-ndjson"):
        try:
            lines = split_records(body, form)
        except ProblemError:
            continue
        assert all(one.payload.strip() for one in lines)
        if form != JSON:
            numbered = enumerate(body.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1)
            expected = [(number, part.rstrip(b"\r")) for number, part in numbered if part.strip()]
            assert [(one.number, one.payload) for one in lines] == expected


def test_ids_of_evaluations_may_be_chosen_by_the_sender(client: httpx.Client, connection: Connection) -> None:
    chosen = str(uuid4())
    assert client.post(PATH, json=good(1, evaluation_id=chosen)).status_code == 200
    assert connection.execute("select evaluation_id from raw.evaluations").fetchone() == (UUID(chosen),)


def test_the_same_refused_feedback_on_two_evaluations_is_kept_for_each_and_never_lands_on_a_third(
    client: httpx.Client, connection: Connection, tenant: str
) -> None:
    ids = [uuid4() for _ in range(3)]
    ahead = line({"success": True, "created_at": "2999-01-01T00:00:00Z"})
    for evaluation_id in ids[:2]:
        assert client.post(f"{PATH}/{evaluation_id}/feedback", content=ahead, headers=NDJSON).status_code == 422
    contrary = line({"evaluation_id": str(ids[2]), "success": True})
    assert client.post(f"{PATH}/{ids[0]}/feedback", content=contrary, headers=NDJSON).status_code == 422

    report = replay(connection, tenant, clock=Clock(lambda: datetime(2999, 1, 2, tzinfo=UTC)))

    assert (report.accepted, report.rejected) == (2, 1)
    assert {row[0] for row in connection.execute("select evaluation_id from raw.feedback")} == set(ids[:2])
