"""ExportLogsServiceRequest in binary protobuf: its log records one by one, each with its bytes as sent.

Belongs here: the encoding. Does not belong here: what attributes mean (`otlp_mapping`).
"""

import base64
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from assets.evaluations.contract import Refused
from assets.evaluations.otlp_mapping import EVENT_NAME, EVENT_NAME_ATTRIBUTE, Event, attributes_of
from assets.evaluations.otlp_wire import (
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    LogRecord,
    UnreadableError,
    can_be_event,
    hexadecimal,
    unreadable,
)

_PACKAGE = "tidemark.otlp"
_FIELD = descriptor_pb2.FieldDescriptorProto


def read_protobuf(body: bytes) -> Iterator[LogRecord]:
    """The request's log records in order.

    Raises:
        UnreadableError: the body is no protobuf, or cut short.
    """
    try:
        request = _envelope_class().FromString(body)
    except DecodeError:
        raise UnreadableError("the body is not an ExportLogsServiceRequest in protobuf") from None
    for resource_logs in request.resource_logs:
        resource = _resource(resource_logs.resource)
        for scope_logs in resource_logs.scope_logs:
            for payload in scope_logs.log_records:
                yield _log_record(payload, resource)


@cache
def _envelope_class() -> Any:
    # The request's own messages, but resource and log records are left as bytes. With the published classes one string
    # that is not UTF-8 would take down its whole request, and the bytes of a record would be lost.
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="tidemark/otlp.proto", package=_PACKAGE, syntax="proto3")
    bytes_, message, once, many = _FIELD.TYPE_BYTES, _FIELD.TYPE_MESSAGE, _FIELD.LABEL_OPTIONAL, _FIELD.LABEL_REPEATED
    for name, fields in (
        ("Request", (("resource_logs", 1, many, message, f".{_PACKAGE}.ResourceLogs"),)),
        (
            "ResourceLogs",
            (("resource", 1, once, bytes_, None), ("scope_logs", 2, many, message, f".{_PACKAGE}.ScopeLogs")),
        ),
        ("ScopeLogs", (("log_records", 2, many, bytes_, None),)),
    ):
        described = file.message_type.add(name=name)
        for field, number, label, kind, type_name in fields:
            described.field.add(name=field, number=number, label=label, type=kind, type_name=type_name)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Request"))


def _resource(encoded: bytes) -> dict[str, object] | Refused:
    try:
        return _attributes(Resource.FromString(encoded).attributes)
    except DecodeError:
        return Refused("resource", "protobuf_invalid", "is not a Resource in protobuf, or not in UTF-8")
    except Refused as why:
        return why


def _log_record(payload: bytes, resource: dict[str, object] | Refused) -> LogRecord:
    if not can_be_event(payload):
        return LogRecord(payload, None)
    try:
        record = logs_pb2.LogRecord.FromString(payload)
    except DecodeError:
        why = Refused(None, "protobuf_invalid", "is not a LogRecord in protobuf, or not in UTF-8")
        return unreadable(payload, why)
    named = (one.value.string_value for one in record.attributes if one.key == EVENT_NAME_ATTRIBUTE)
    if EVENT_NAME not in (record.event_name, *named):
        return LogRecord(payload, None)
    if isinstance(resource, Refused):
        return LogRecord(payload, resource)
    try:
        own = _attributes(record.attributes)
    except Refused as why:
        return LogRecord(payload, why)
    event = Event(
        attributes=resource | own,
        time_unix_nano=record.time_unix_nano or record.observed_time_unix_nano,
        trace_id=hexadecimal(record.trace_id, TRACE_ID_BYTES),
        span_id=hexadecimal(record.span_id, SPAN_ID_BYTES),
    )
    return LogRecord(payload, event)


def _attributes(attributes: Iterable[KeyValue]) -> dict[str, object]:
    return attributes_of((attribute.key, _plain(attribute.value)) for attribute in attributes)


def _plain(value: AnyValue) -> object:
    # No limit of its own to the depth: the parser's is 100.
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    plain: object = getattr(value, kind)
    return plain
