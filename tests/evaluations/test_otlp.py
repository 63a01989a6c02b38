"""From OTLP's bytes to records, without a door: both encodings say the same, and nothing is taken for what it isn't."""

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson
import otlp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from otlp import CREATED_AT, EVENT, as_json, event, log, request

from assets.evaluations import otlp_json, otlp_protobuf
from assets.evaluations.contract import EVALUATION, Refused, parse
from assets.evaluations.json_slices import BrokenError, elements, members, require_end, value_at
from assets.evaluations.otlp_mapping import MAPPING, SCORES, Event, record_of
from assets.evaluations.otlp_wire import Census, LogRecord, UnreadableError
from assets.evaluations.record_fields import Evaluation
from storage.clock import Clock
from storage.settings import PROJECT_ROOT


def read_protobuf(body: bytes) -> Iterator[LogRecord]:
    return otlp_protobuf.read_protobuf(body, Census(100))


def read_json(body: bytes) -> Iterator[LogRecord]:
    return otlp_json.read_json(body, Census(100))


def both(message: ExportLogsServiceRequest) -> list[LogRecord]:
    """What protobuf reads; JSON has to read the same."""
    read = list(read_protobuf(message.SerializeToString()))
    document = as_json(message)
    from_json = list(read_json(json.dumps(document, indent=1).encode()))
    assert [one.event for one in read] == [one.event for one in from_json]
    sent = [
        record
        for resource in document["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]
    assert [json.loads(one.payload) for one in from_json] == sent
    return read


def record(attributes: dict[str, object], resource: dict[str, object] | None = None, **changes: Any) -> dict[str, Any]:
    message = request(log(attributes, **changes), resource=otlp.RESOURCE if resource is None else resource)
    (read,) = both(message)
    assert isinstance(read.event, Event), read.event
    document: dict[str, Any] = json.loads(record_of(read.event))
    return document


def judged(document: dict[str, Any]) -> Evaluation:
    return parse(EVALUATION, json.dumps(document).encode(), Clock().now())


def test_an_event_by_the_conventions_is_a_record() -> None:
    expected = {
        "record_id": "response-1:reliability",
        "template": "invoice",
        "extractor_vendor": "acme-ai",
        "extractor_model": "reader-2",
        "reliability_score": 0.9,
        "created_at": CREATED_AT,
        "correlation_id": otlp.TRACE.hex(),
    }
    assert record(event(1)) == expected
    assert judged(expected)["reliability_score"] == 0.9
    drift = record(event(1, gen_ai__evaluation__name="Drift", gen_ai__evaluation__score__value=1))
    assert (drift["drift_score"], drift["record_id"]) == (1, "response-1:Drift")
    other = event(1, gen_ai__evaluation__name="relevance", gen_ai__evaluation__score__label="relevant")
    other_record = record(other)
    assert (other_record["score"], other_record["label"]) == (0.9, "relevant")
    assert other_record["features"] == {"evaluation_name": "relevance"}
    label_alone = record(other | {"gen_ai.evaluation.score.value": None})
    assert judged(label_alone)["label"] == "relevant"
    nothing = record(event(1, gen_ai__evaluation__name="relevance", gen_ai__evaluation__score__value=...))
    with pytest.raises(Refused, match="at least one of"):
        judged(nothing)


def test_tidemark_s_own_names_win_and_reach_every_field() -> None:
    own = {
        "record_id": "mine",
        "evaluation_id": "0197a1f0-0000-7000-8000-000000000000",
        "template": "own",
        "template_version": "2",
        "extractor_vendor": "v",
        "extractor_model": "m",
        "drift_score": 0.1,
        "reliability_score": 0.2,
        "decision": "review",
        "created_at": "2026-04-01T00:00:00Z",
        "embedding": [0.5] * 384,
        "score": 7,
        "label": "low",
        "propensity": 0.5,
        "decision_id": "d",
        "eligible_extractors": ["v/m", "v/other"],
        "assigned_by": "share",
        "snapshot_id": "0197a1f0-0000-7000-8000-000000000001",
        "cost_usd": 0.5,
        "latency_ms": 7,
        "batch_key": "b",
        "correlation_id": "c",
        "success": True,
        "fields_correct": 1,
        "fields_total": 2,
    }
    assert set(own) | {"features"} == set(Evaluation.__annotations__)
    given_features = {"tidemark.features": {"pages": 2, "language": "en"}, "tidemark.features.pages": 3}
    attributes = event(1) | {f"tidemark.{name}": value for name, value in own.items()} | given_features
    document = record(attributes)
    assert document == own | {"features": {"pages": 3, "language": "en"}}
    assert judged(document)["decision"] == "review"
    # The resource says what all its records share; a record's own attribute wins.
    shared = {"tidemark.template": "shared", "gen_ai.provider.name": "acme-ai", "tidemark.batch_key": "b"}
    assert record(event(1), shared)["template"] == "shared"
    assert record(event(1, tidemark__template="own"), shared)["template"] == "own"
    with pytest.raises(Refused, match="colour"):
        judged(record(event(1, tidemark__colour="red")))


def test_an_event_without_a_response_is_told_from_others_by_all_it_says() -> None:
    plain = event(1, gen_ai__response__id=...)
    first = record(plain)["record_id"]
    assert record(plain)["record_id"] == first
    others = [
        record(plain, span_id=b"12345678"),
        record(plain, time_unix_nano=otlp.TIME + 1),
        record(plain | {"colour": "red"}),
        record(plain, otlp.RESOURCE | {"service.instance.id": "2"}),
        record(event("x" * 200)),
        record(event(1, gen_ai__response__id=7)),
    ]
    assert len({first, *(other["record_id"] for other in others)}) == 7
    assert "created_at" not in record(plain, time_unix_nano=0)
    assert record(plain, time_unix_nano=0, observed_time_unix_nano=otlp.TIME)["created_at"] == CREATED_AT
    assert record(plain, time_unix_nano=2**64 - 1)["created_at"].startswith("2554")
    for no_trace in (b"", bytes(16), b"123"):
        assert "correlation_id" not in record(plain, trace_id=no_trace)


def test_only_evaluation_events_are_evaluations() -> None:
    by_attribute = log(event(1) | {"event.name": EVENT}, event_name="")
    others = [
        log(event(2), event_name=""),
        log(event(3), event_name="gen_ai.client.inference.operation.details"),
        log({"event.name": "browser.page_view", "text": f"not {EVENT}"}, event_name=""),
        log({"event.name": 7}, event_name=""),
        log({}, event_name=""),
    ]
    read = both(request(by_attribute, *others))
    assert [one.event is None for one in read] == [False, True, True, True, True, True]
    assert list(read_protobuf(b"")) == []
    for empty in (
        b"{}",
        b' { "resourceLogs" : null } ',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[ ]},{}]},{}]}',
    ):
        assert list(read_json(empty)) == []


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"intValue": "9223372036854775808"}, "x"),
        ({"intValue": 10**30}, "x"),
        ({"intValue": True}, "x"),
        ({"intValue": "1.5"}, "x"),
        ({"doubleValue": "high"}, "x"),
        ({"doubleValue": True}, "x"),
        ({"stringValue": 7}, "x"),
        ({"boolValue": "true"}, "x"),
        ({"arrayValue": []}, "x"),
        ({"arrayValue": {"values": {}}}, "x"),
        ({"kvlistValue": []}, "x"),
        ({"kvlistValue": {"values": {}}}, "attributes"),
        ({"kvlistValue": {"values": [7]}}, "attributes"),
        ({"kvlistValue": {"values": [{"key": 7}]}}, "attributes"),
        ([], "x"),
    ],
)
def test_what_otlp_json_forbids_refuses_its_own_record(value: object, field: str) -> None:
    document = as_json(request(log(event(1)), log(event(2))))
    logs = document["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    logs[0]["attributes"].append({"key": "x", "value": value})
    bad, good = read_json(json.dumps(document).encode())
    assert isinstance(bad.event, Refused)
    assert (bad.event.field, bad.event.code) == (field, "otlp_form")
    assert isinstance(good.event, Event)


def test_a_record_that_cannot_be_read_takes_no_other_down_nor_does_a_resource() -> None:
    good = log(event(1)).SerializeToString()
    not_utf8 = good.replace(b"reader-2", b"reader\xff\xfe")
    cut = good + b"\x32\x7f"
    read = list(read_protobuf(otlp.request_of_bytes([good, not_utf8, cut, b"\xff\xff", b""])))
    assert [one.payload for one in read] == [good, not_utf8, cut, b"\xff\xff", b""]
    codes = [getattr(one.event, "code", type(one.event).__name__) for one in read]
    assert codes == ["Event", "otlp_protobuf", "otlp_protobuf", "NoneType", "NoneType"]
    twice = log(event(1))
    twice.attributes.append(twice.attributes[0])
    wrong_resource = otlp.request_of_bytes([good, b""], resource=b"\x0a\x03\x0a\x01\xff")
    for body in (otlp.request_of_bytes([twice.SerializeToString()]), wrong_resource):
        assert isinstance(next(read_protobuf(body)).event, Refused)

    line = json.dumps(as_json(request(log(event(1))))["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0])
    nan = line.replace("0.9", "NaN")
    surrogate = line.replace("reader-2", "\\ud800")
    escaped = line.replace(EVENT, "gen_ai.evaluation\\u002eresult")
    deep = '{"attributes":' + '[{"a":' * 2000 + "7" + "}]" * 2000 + "}"
    sent = ", ".join([line, nan, surrogate, escaped, "nonsense", "7", '{"a":}', deep])
    body = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + sent + "]}]}]}"
    from_json = list(read_json(body.encode()))
    codes = [getattr(one.event, "code", type(one.event).__name__) for one in from_json]
    assert codes == ["Event", "otlp_json", "otlp_json", "Event", *["NoneType"] * 4]
    assert from_json[1].payload == nan.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"nonsense",
        b"{} {}",
        b'{"resourceLogs":{}}',
        b'{"resourceLogs":[7]}',
        b'{"a" 1}',
        b"{1:2}",
        b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_json_that_cannot_be_told_apart_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError, match="at byte"):
        list(read_json(body))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), st.lists(JSON, max_size=4), max_size=4), st.sampled_from([None, 0, 3]), st.booleans())
def test_slices_are_the_values_that_a_parser_finds(
    document: dict[str, list[object]], indent: int | None, ascii_: bool
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_).encode()
    require_end(text)
    found = {name: [orjson.loads(value_at(text, at)) for at in elements(text, begin)] for name, begin in members(text)}
    assert found == orjson.loads(text)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]":,\\ a1', max_size=60).map(str.encode))
def test_no_bytes_do_more_than_to_be_unreadable(body: bytes) -> None:
    for read in (read_json, read_protobuf):
        try:
            for one in read(body):
                assert one.payload in body
        except UnreadableError:
            pass
    try:
        require_end(body)
    except BrokenError:
        with pytest.raises(ValueError, match=r".*"):
            json.loads(body)


def test_the_guide_names_every_attribute() -> None:
    guide = (PROJECT_ROOT / "docs" / "otlp.md").read_text()
    named = set(re.findall(r"`([a-z_.]+)`", guide))
    assert {name for names in MAPPING.values() for name in names} <= named
    assert set(SCORES) | set(SCORES.values()) <= named
