"""ExportLogsServiceRequest in binary protobuf: its log records one by one, each with its bytes as sent.

Belongs here: the encoding. Does not belong here: what attributes mean (`otlp_mapping`).
"""

import base64
from collections.abc import Iterable, Iterator

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from assets.evaluations.contract import Refused
from assets.evaluations.otlp_mapping import EVENT_NAME, EVENT_NAME_ATTRIBUTE, Event, attributes_of
from assets.evaluations.otlp_wire import (
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    Census,
    LogRecord,
    UnreadableError,
    can_be_event,
    hexadecimal,
    unreadable,
)

_Span = tuple[int, int]

_RESOURCE_LOGS, _RESOURCE, _SCOPE_LOGS, _LOG_RECORDS = 1, 1, 2, 2
_VARINT, _MESSAGE, _FIXED = 0, 2, {1: 8, 5: 4}
_LEAST_TAG = 1 << 3
_UNREADABLE = "the body is not an ExportLogsServiceRequest in protobuf"


def read_protobuf(body: bytes, census: Census) -> Iterator[LogRecord]:
    """The request's log records in order.

    Raises:
        UnreadableError: the body is no protobuf, or cut short.
        TooManyError: it has more parts than the census admits.
    """
    for resource_logs in _repeated(body, (0, len(body)), _RESOURCE_LOGS, census):
        resource = _resource(body, resource_logs)
        for scope_logs in _repeated(body, resource_logs, _SCOPE_LOGS, census):
            for begin, end in _repeated(body, scope_logs, _LOG_RECORDS, census):
                yield _log_record(body[begin:end], resource)


def _repeated(body: bytes, span: _Span, number: int, census: Census) -> Iterator[_Span]:
    for found, member in _messages(body, span):
        if found == number:
            census.count()
            yield member


def _messages(body: bytes, span: _Span) -> Iterator[tuple[int, _Span]]:
    # Read by hand. The published classes would refuse a request whole for one string that is not UTF-8, lose the bytes
    # of a record, and make hundreds of megabytes of eight that hold nothing but empty messages.
    position, end = span
    while position < end:
        tag, position = _varint(body, position, end)
        kind, size = tag & 7, 0
        if kind == _VARINT:
            _, position = _varint(body, position, end)
        elif kind == _MESSAGE:
            size, position = _varint(body, position, end)
        else:
            size = _FIXED.get(kind, end)
        if tag < _LEAST_TAG or position + size > end:
            raise UnreadableError(_UNREADABLE)
        if kind == _MESSAGE:
            yield tag >> 3, (position, position + size)
        position += size


def _varint(body: bytes, position: int, end: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 64, 7):
        if position >= end:
            break
        byte = body[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004 - the bit that says that more follows
            return number, position
    raise UnreadableError(_UNREADABLE)


def _resource(body: bytes, resource_logs: _Span) -> dict[str, object] | Refused:
    encoded = b"".join(
        body[begin:end] for number, (begin, end) in _messages(body, resource_logs) if number == _RESOURCE
    )
    try:
        return _attributes(Resource.FromString(encoded).attributes)
    except DecodeError:
        return Refused("resource", "otlp_protobuf", "is not a Resource in protobuf, or not in UTF-8")
    except Refused as why:
        return why


def _log_record(payload: bytes, resource: dict[str, object] | Refused) -> LogRecord:
    if not can_be_event(payload):
        return LogRecord(payload, None)
    try:
        record = logs_pb2.LogRecord.FromString(payload)
    except DecodeError:
        why = Refused(None, "otlp_protobuf", "is not a LogRecord in protobuf, or not in UTF-8")
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
