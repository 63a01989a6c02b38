"""`POST /v1/logs` as clients of OTLP see it: answers in their encoding, partial success exact, nothing lost."""

import gzip
import json
import math
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from door import serving
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from otlp import as_json, event, log, request, request_of_bytes

from assets.evaluations.replay import replay
from gateway import ingest_door
from gateway.bodies import MOST_BYTES, MOST_RECORDS
from gateway.options import DoorOptions
from storage.api_keys import create_key
from storage.clock import Clock
from storage.database import Connection, Database
from storage.limits import set_monthly_limit
from storage.pool import MOST_CONNECTIONS

PATH = "/v1/logs"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def client(database: Database, connection: Connection, tenant: str) -> Iterator[httpx.Client]:
    _, text = create_key(connection, tenant, ["ingest"], now=Clock().now())
    with serving(database) as client:
        client.headers["X-API-Key"] = text
        yield client


def push(client: httpx.Client, message: Message | bytes) -> ExportLogsServiceResponse:
    content = message if isinstance(message, bytes) else message.SerializeToString()
    answer = client.post(PATH, content=content, headers=PROTOBUF)
    assert answer.status_code == 200, answer.content
    assert answer.headers["content-type"] == "application/x-protobuf"
    response: ExportLogsServiceResponse = ExportLogsServiceResponse.FromString(answer.content)
    return response


def stored(connection: Connection) -> list[str]:
    return [row[0] for row in connection.execute("select record_id from raw.evaluations order by 1")]


def test_a_collector_s_batch_of_several_resources_and_kinds_of_logs_lands_its_events_once(
    client: httpx.Client, connection: Connection
) -> None:
    batch = ExportLogsServiceRequest()
    for service in ("invoice", "receipt", "letter"):
        resource = {"service.name": service, "gen_ai.provider.name": "acme-ai"}
        logs = [log(event(f"{service}-{number}")) for number in range(3)]
        other = log({"gen_ai.evaluation.name": "reliability"}, event_name="something.else")
        batch.MergeFrom(request(other, *logs, resource=resource))
        batch.resource_logs[-1].scope_logs.add().log_records.append(log(event(f"{service}-second-scope")))
    batch.resource_logs.add()
    assert push(client, batch) == ExportLogsServiceResponse()
    # Again, in the other encoding, packed, as a client does that has not seen the answer.
    packed = gzip.compress(json.dumps(as_json(batch)).encode())
    again = client.post(PATH, content=packed, headers=JSON | {"Content-Encoding": "gzip"})
    assert (again.status_code, again.headers["content-type"], again.json()) == (200, "application/json", {})
    templates = connection.execute("select template, count(*) from raw.evaluations group by 1 order by 1").fetchall()
    assert templates == [("invoice", 4), ("letter", 4), ("receipt", 4)]
    receipts = connection.execute(
        "select door, source, accepted, duplicates, conflicts, rejected from raw.ingest_batches order by batch_id"
    ).fetchall()
    assert receipts == [
        ("otlp", "OTLP, mapping version 1", 12, 0, 0, 0),
        ("otlp", "OTLP, mapping version 1", 0, 12, 0, 0),
    ]
    metrics = client.get("/metrics").text
    assert 'tidemark_ignored_log_records_total{door="otlp"} 6.0' in metrics
    assert 'tidemark_records_total{door="otlp",kind="evaluations",verdict="accepted"} 12.0' in metrics


def test_what_is_no_evaluation_is_a_full_success_and_leaves_no_batch(
    client: httpx.Client, connection: Connection
) -> None:
    full = ExportLogsServiceResponse()
    assert push(client, b"") == full
    assert push(client, request(log({}, event_name="browser.page_view"))) == full
    assert client.post(PATH, content=b"{}", headers=JSON).json() == {}
    assert connection.execute("select count(*) from raw.ingest_batches").fetchone() == (0,)


POISON: dict[str, tuple[dict[str, object], str, str]] = {
    "a string for a score": ({"gen_ai.evaluation.score.value": "0.9"}, "reliability_score", "float_type"),
    "a boolean for a score": ({"gen_ai.evaluation.score.value": True}, "reliability_score", "float_type"),
    "NaN": ({"gen_ai.evaluation.score.value": math.nan}, "reliability_score", "finite_number"),
    "infinity": ({"gen_ai.evaluation.score.value": -math.inf}, "reliability_score", "finite_number"),
    "a huge whole number": ({"gen_ai.evaluation.score.value": 2**63 - 1}, "reliability_score", "less_than_equal"),
    "a list for a score": ({"gen_ai.evaluation.score.value": [0.9]}, "reliability_score", "float_type"),
    "a map for a model": ({"gen_ai.response.model": {"name": "x"}}, "extractor_model", "string_type"),
    "a NUL": ({"tidemark.template": "a\x00b"}, "template", "nul_character"),
    "an unknown field": ({"tidemark.colour": "red"}, "colour", "unknown_field"),
    "a feature that is NaN": ({"tidemark.features.x": math.nan}, "features", "finite_number"),
    "features within features": ({"tidemark.features": {"x": {"y": 1}}}, "features.x", "float_type"),
    "features that are a string": ({"tidemark.features": "x"}, "features", "dict_type"),
    "a string of 2 MB": ({"tidemark.label": "x" * 2_000_000}, "label", "string_too_long"),
    "a NUL in an unknown field's name": ({"tidemark.a\x00": 1}, "a\\0", "unknown_field"),
}


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_every_poison_event_alone_among_good_ones_is_one_dead_letter_byte_for_byte(
    client: httpx.Client, connection: Connection, encoding: str
) -> None:
    expected = {}
    for place, (name, (changes, field, code)) in enumerate(POISON.items()):
        logs = [log(event(f"{place}-{number}")) for number in range(20)]
        logs.insert(10, log(event(f"poison-{place}") | changes))
        message = request(*logs)
        if encoding == "protobuf":
            payload, partial = logs[10].SerializeToString(), push(client, message).partial_success
            told = (partial.rejected_log_records, partial.error_message)
        else:
            document = as_json(message)
            payload = json.dumps(document["resourceLogs"][0]["scopeLogs"][0]["logRecords"][10]).encode()
            answer = client.post(PATH, content=json.dumps(document).encode(), headers=JSON)
            assert answer.status_code == 200, name
            in_json = answer.json()["partialSuccess"]
            assert isinstance(in_json["rejectedLogRecords"], str)
            told = (int(in_json["rejectedLogRecords"]), in_json["errorMessage"])
        assert told[0] == 1, name
        assert told[1].startswith(f"log record 11, {field}: "), (name, told)
        expected[payload] = (11, field, code)
    kept = connection.execute("select payload, line, field, code, record from raw.rejected_records").fetchall()
    assert {bytes(row[0]): row[1:4] for row in kept} == expected
    # What was judged is kept beside, for a replay.
    assert all(b'"template"' in bytes(row[4]) for row in kept)
    assert len(stored(connection)) == 20 * len(POISON)


def test_partial_success_counts_conflicts_and_tells_where_a_missing_field_is_read_from(
    client: httpx.Client, connection: Connection
) -> None:
    assert push(client, request(log(event(1)))) == ExportLogsServiceResponse()
    changed = event(1, gen_ai__evaluation__score__value=0.1)
    no_model = event(2, gen_ai__response__model=...)
    unreadable = log(event(3)).SerializeToString().replace(b"reader-2", b"reader\xff\xfe")
    resource = request(resource={"service.name": "invoice", "gen_ai.provider.name": "a"}).resource_logs[0].resource
    payloads = [log(event(1)).SerializeToString(), b"", log(changed).SerializeToString(), unreadable]
    payloads += [log(no_model).SerializeToString(), log(event(4), time_unix_nano=0).SerializeToString()]
    # The provider differs from the first push, so response 1 conflicts twice.
    partial = push(client, request_of_bytes(payloads, resource.SerializeToString())).partial_success
    assert partial.rejected_log_records == 5
    told = partial.error_message
    assert "log record 1, record_id: this record_id has landed before with other content" in told
    assert "log record 4: is not a LogRecord in protobuf" in told
    assert (
        "log record 5, extractor_model: field required (read from tidemark.extractor_model, gen_ai.response.m" in told
    )
    assert "log record 6, created_at: field required (read from tidemark.created_at, timeUnixNano, observed" in told
    assert "rejects list" in told
    verdicts = connection.execute("select verdict, count(*) from raw.rejected_records group by 1 order by 1").fetchall()
    assert verdicts == [("conflict", 2), ("rejected", 3)]
    assert stored(connection) == ["response-1:reliability"]
    many = push(client, request(*[log(event(number, tidemark__x=1)) for number in range(30)])).partial_success
    assert many.rejected_log_records == 30
    assert many.error_message.count("log record") == 10
    assert "and 20 more" in many.error_message


def test_a_refused_event_lands_by_a_replay_and_one_that_could_not_be_read_stays(
    client: httpx.Client, connection: Connection, tenant: str
) -> None:
    ahead = log(event(1), time_unix_nano=int((Clock().now().timestamp() + 3600) * 10**9))
    not_utf8 = log(event(2)).SerializeToString().replace(b"reader-2", b"reader\xff\xfe")
    resource = request(ahead).resource_logs[0].resource.SerializeToString()
    body = request_of_bytes([ahead.SerializeToString(), not_utf8], resource)
    assert push(client, body).partial_success.rejected_log_records == 2
    report = replay(connection, tenant, clock=Clock(now=lambda: datetime.now(UTC) + timedelta(hours=1)))
    assert (report.accepted, report.rejected, report.unreadable) == (1, 0, 1)
    assert stored(connection) == ["response-1:reliability"]
    left = connection.execute("select payload, code from raw.rejected_records where replayed_at is null").fetchall()
    assert [(bytes(payload), code) for payload, code in left] == [(not_utf8, "otlp_protobuf")]


@pytest.mark.parametrize(
    ("content", "changes", "status", "reason"),
    [
        (b"\xff\xff\xff", PROTOBUF, 400, "ExportLogsServiceRequest in protobuf"),
        (request(log(event(1))).SerializeToString()[:-5], PROTOBUF, 400, "protobuf"),
        (b'{"resourceLogs": [', JSON, 400, "OTLP/JSON"),
        (b"7", JSON, 400, "OTLP/JSON"),
        (b"not gzip", PROTOBUF | {"Content-Encoding": "gzip"}, 400, "gzip"),
        (gzip.compress(bytes(MOST_BYTES + 1)), PROTOBUF | {"Content-Encoding": "gzip"}, 413, str(MOST_BYTES)),
        (request_of_bytes([b""] * (MOST_RECORDS + 1)), PROTOBUF, 413, str(MOST_RECORDS)),
        (b"\x0a\x00" * (3 * MOST_RECORDS + 1), PROTOBUF, 413, "scopes"),
        (b'{"resourceLogs":[' + b"{}," * 3 * MOST_RECORDS + b"{}]}", JSON, 413, "scopes"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "application/x-protobuf"),
        (b"", PROTOBUF | {"Content-Encoding": "br"}, 415, "gzip"),
        (b"", PROTOBUF | {"X-API-Key": "nonsense"}, 401, "key"),
        (b"{}", JSON | {"X-API-Key": ""}, 401, "X-API-Key"),
    ],
)
def test_what_is_refused_whole_is_a_status_in_the_encoding_of_the_request(
    client: httpx.Client, connection: Connection, content: bytes, changes: dict[str, str], status: int, reason: str
) -> None:
    answer = client.post(PATH, content=content, headers=changes)
    assert answer.status_code == status
    assert reason in message_of(answer, changes)
    assert connection.execute("select count(*) from raw.ingest_batches").fetchone() == (0,)


def message_of(answer: httpx.Response, headers: dict[str, str] = PROTOBUF) -> str:
    """The message of google.rpc.Status, by Google's own class."""
    binary = headers["Content-Type"] == PROTOBUF["Content-Type"]
    assert answer.headers["content-type"] == ("application/x-protobuf" if binary else "application/json")
    return str(Status.FromString(answer.content).message if binary else answer.json()["message"])


def test_a_full_door_and_a_slow_body_are_503_and_a_spent_quota_is_429_each_with_retry_after(
    database: Database, connection: Connection, tenant: str
) -> None:
    _, text = create_key(connection, tenant, ["ingest"], now=Clock().now())
    headers = PROTOBUF | {"X-API-Key": text}
    content = request(log(event(1))).SerializeToString()
    with serving(database, options=DoorOptions(most_bytes_in_flight=1)) as client:
        full = client.post(PATH, content=content, headers=headers)
    assert (full.status_code, full.headers["retry-after"]) == (503, "1")
    assert "nothing was landed" in message_of(full)
    with serving(database, options=DoorOptions(body_seconds=0.1)) as client:
        slow = socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=30)
        with slow, slow.makefile("rb") as answer:
            head = (
                f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-API-Key: {text}\r\nContent-Type: {PROTOBUF['Content-Type']}\r\n"
            )
            slow.sendall(f"{head}Content-Length: 30000\r\n\r\nx".encode())
            answered = answer.read().decode(errors="replace").lower()
        assert answered.startswith("http/1.1 503")
        assert "retry-after: 1" in answered
        assert "did not arrive" in answered
    with serving(database) as client:
        assert client.post(PATH, content=content, headers=headers).status_code == 200
        set_monthly_limit(connection, tenant, 1)
        spent = client.post(PATH, content=content, headers=headers)
    assert spent.status_code == 429
    assert int(spent.headers["retry-after"]) > 0
    assert "1" in message_of(spent)
    assert stored(connection) == ["response-1:reliability"]


def test_a_database_that_is_away_is_a_503_that_acknowledges_nothing(
    client: httpx.Client, connection: Connection
) -> None:
    content = request(log(event(1))).SerializeToString()
    connection.execute("alter table raw.ingest_batches rename to away")
    connection.execute("create view raw.ingest_batches as select * from raw.away")
    connection.execute(
        "create function raw.leave() returns trigger language plpgsql as "
        "$$ begin raise exception sqlstate '57P01'; end $$"
    )
    connection.execute(
        "create trigger leave instead of insert on raw.ingest_batches for each row execute function raw.leave()"
    )
    answer = client.post(PATH, content=content, headers=PROTOBUF)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "nothing was acknowledged" in message_of(answer)
    assert stored(connection) == []


def test_more_batches_than_can_land_at_once_wait_for_their_turn_and_hold_no_thread(
    client: httpx.Client, database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_door, "_TURN_SECONDS", 0.1)
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    contents = [request(log(event(number))).SerializeToString() for number in range(MOST_CONNECTIONS + 1)]
    with ThreadPoolExecutor(MOST_CONNECTIONS) as pool:
        with database.connect() as holder:
            holder.execute("lock table raw.evaluations in access exclusive mode")
            pushes = [pool.submit(push, client, content) for content in contents[1:]]
            while connection.execute(waiting).fetchone() != (MOST_CONNECTIONS,):
                pass
            one_more = client.post(PATH, content=contents[0], headers=PROTOBUF)
        assert one_more.status_code == 503
        assert "too many batches" in message_of(one_more)
        assert [pushed.result() for pushed in pushes] == [ExportLogsServiceResponse()] * MOST_CONNECTIONS
