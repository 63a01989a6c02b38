"""`Idempotency-Key`: the same answer for a day, another body refused, one at a time, and nothing lands twice."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from door import serving
from poison import good, line

from storage.api_keys import create_key
from storage.clock import Clock
from storage.database import Connection, Database

PATH = "/v1/evaluations"
_HELD = "select count(*) from pg_locks where locktype = 'advisory' and objsubid = 2"


@pytest.fixture
def client(database: Database, connection: Connection, tenant: str) -> Iterator[httpx.Client]:
    _, text = create_key(connection, tenant, ["ingest"], now=Clock().now())
    with serving(database) as client:
        client.headers.update({"X-API-Key": text, "Content-Type": "application/x-ndjson"})
        yield client


def push(client: httpx.Client, key: str, *records: object, path: str = PATH) -> httpx.Response:
    content = b"\n".join(line(record) for record in records)
    return client.post(path, content=content, headers={"Idempotency-Key": key})


def batches(connection: Connection) -> int:
    row = connection.execute("select count(*) from raw.ingest_batches").fetchone()
    return int(row[0]) if row else -1


def test_the_stored_answer_is_given_again_whatever_it_was(client: httpx.Client, connection: Connection) -> None:
    for number, (records, status) in enumerate([([good(1)], 200), ([good(2), {}], 207), ([{}], 422)]):
        first = push(client, f"key-{number}", *records)
        again = push(client, f"key-{number}", *records)
        assert first.status_code == again.status_code == status
        assert first.content == again.content
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
    assert batches(connection) == 3


def test_a_key_belongs_to_one_request(client: httpx.Client, connection: Connection) -> None:
    push(client, "key", good(1))
    for other in (
        push(client, "key", good(2)),
        push(client, "key", good(1), path="/v1/feedback"),
        client.post(PATH, json=good(1), headers={"Idempotency-Key": "key", "Content-Type": "application/json"}),
    ):
        assert other.status_code == 422
        assert other.json()["type"] == "urn:tidemark:problem:idempotency-key-reused"
    assert batches(connection) == 1
    for bad in ("", "a b", "x" * 256, "\u00e9"):
        refused = client.post(PATH, content=line(good(3)), headers=[(b"Idempotency-Key", bad.encode("latin-1"))])
        assert refused.status_code == 400, bad
    twice = client.post(PATH, content=line(good(3)), headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert twice.status_code == 400
    assert push(client, "!" * 255, good(3)).status_code == 200


def test_what_was_refused_as_a_whole_is_not_stored(client: httpx.Client) -> None:
    empty = client.post(PATH, content=b"", headers={"Idempotency-Key": "key"})
    assert empty.status_code == 422
    assert push(client, "key", good(1)).json()["accepted"] == 1


def test_an_answer_older_than_a_day_is_forgotten_and_taken_away(client: httpx.Client, connection: Connection) -> None:
    for number in range(3):
        push(client, f"old-{number}", good(number))
    connection.execute("update access.idempotent_answers set created_at = created_at - interval '24 hours'")
    again = push(client, "old-0", good(0))
    assert "idempotency-replayed" not in again.headers
    assert again.json()["duplicates"] == 1
    assert connection.execute("select idempotency_key from access.idempotent_answers").fetchall() == [("old-0",)]
    assert push(client, "old-0", good(0)).content == again.content


def test_while_a_request_is_in_work_its_key_is_409_and_then_has_its_answer(
    client: httpx.Client, connection: Connection
) -> None:
    connection.execute("begin")
    connection.execute("lock table raw.ingest_batches in exclusive mode")
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=client.base_url, headers=client.headers) as other:
        first = pool.submit(push, client, "key", good(1))
        while connection.execute(_HELD).fetchone() == (0,):
            pass
        second = push(other, "key", good(1))
        connection.execute("rollback")
        landed = first.result()
    assert second.status_code == 409
    assert second.headers["retry-after"] == "1"
    assert second.json()["type"] == "urn:tidemark:problem:idempotency-key-in-work"
    assert landed.json()["accepted"] == 1
    assert push(client, "key", good(1)).content == landed.content


def test_of_many_at_once_one_lands_and_all_get_its_answer_in_the_end(
    client: httpx.Client, connection: Connection
) -> None:
    start = threading.Barrier(8)

    def insist(_number: int) -> bytes:
        with httpx.Client(base_url=client.base_url, headers=client.headers, timeout=30) as own:
            start.wait()
            while (answer := push(own, "key", *map(good, range(200)))).status_code == 409:
                pass
        assert answer.status_code == 200, answer.text
        return answer.content

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(insist, range(8)))) == 1
    assert batches(connection) == 1
    assert connection.execute("select count(*) from raw.evaluations").fetchone() == (200,)
