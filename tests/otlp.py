"""Evaluation events as OpenTelemetry sends them, in both encodings, made without the code that reads them."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

EVENT = "gen_ai.evaluation.result"
TRACE, SPAN = bytes.fromhex("5b8efff798038103d269b633813fc60c"), bytes.fromhex("eee19b7ec3c1b174")
TIME = 1_777_636_800_000_000_123
CREATED_AT = "2026-05-01T12:00:00Z"
RESOURCE = {"service.name": "invoice", "gen_ai.provider.name": "acme-ai"}


def any_value(value: object) -> AnyValue:
    if value is None:
        return AnyValue()
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=map(any_value, value)))
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
    kinds: dict[type, str] = {bool: "bool", int: "int", float: "double", str: "string", bytes: "bytes"}
    return AnyValue(**{f"{kinds[type(value)]}_value": value})  # type: ignore[arg-type]


def pairs(attributes: Mapping[str, object]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def event(number: int | str, /, **changes: object) -> dict[str, object]:
    """Attributes of an event that is admitted; double underscores in names of changes stand for dots."""
    attributes: dict[str, object] = {
        "gen_ai.evaluation.name": "reliability",
        "gen_ai.evaluation.score.value": 0.9,
        "gen_ai.response.id": f"response-{number}",
        "gen_ai.response.model": "reader-2",
    }
    attributes |= {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in attributes.items() if value is not ...}


def log(attributes: Mapping[str, object], **changes: Any) -> LogRecord:
    members: dict[str, Any] = {"event_name": EVENT, "time_unix_nano": TIME, "trace_id": TRACE, "span_id": SPAN}
    return LogRecord(attributes=pairs(attributes), **members | changes)


def request(*logs: LogRecord, resource: Mapping[str, object] = RESOURCE) -> ExportLogsServiceRequest:
    """One resource, one scope."""
    return ExportLogsServiceRequest(
        resource_logs=[
            ResourceLogs(resource=Resource(attributes=pairs(resource)), scope_logs=[ScopeLogs(log_records=logs)])
        ]
    )


def as_json(message: ExportLogsServiceRequest) -> dict[str, Any]:
    """OTLP/JSON: protobuf's JSON with identifiers in hexadecimal."""
    document: dict[str, Any] = MessageToDict(message)
    for resource_logs in document.get("resourceLogs", ()):
        for scope_logs in resource_logs.get("scopeLogs", ()):
            for record in scope_logs.get("logRecords", ()):
                for name in {"traceId", "spanId"} & record.keys():
                    record[name] = base64.b64decode(record[name]).hex().upper()
    return document


def varint(number: int) -> bytes:
    head = b""
    while number > 127:
        head += bytes([number & 127 | 128])
        number >>= 7
    return head + bytes([number])


def request_of_bytes(payloads: Sequence[bytes], resource: bytes = b"") -> bytes:
    """A request in protobuf whose log records are these bytes, which need not be log records at all."""

    def member(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2]) + varint(len(content)) + content

    scope = member(2, b"".join(member(2, payload) for payload in payloads))
    return member(1, (member(1, resource) if resource else b"") + scope)
