"""ExportLogsServiceRequest in OTLP/JSON: its log records one by one, each with its bytes as sent.

OTLP/JSON is protobuf's JSON with identifiers in hexadecimal, 64-bit integers as strings or numbers, names in
lowerCamelCase, and unknown names ignored. Belongs here: the encoding. Does not belong here: what attributes mean
(`otlp_mapping`).
"""

import re
from collections.abc import Iterator, Mapping

import orjson

from assets.evaluations.contract import Refused
from assets.evaluations.json_slices import BrokenError, elements, members, require_end, value_at
from assets.evaluations.otlp_mapping import EVENT_NAME, EVENT_NAME_ATTRIBUTE, Event, attributes_of, shown
from assets.evaluations.otlp_wire import (
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    Census,
    LogRecord,
    UnreadableError,
    hexadecimal,
    unreadable,
)

_MOST_DEPTH = 100  # protobuf's own
_WHOLE = re.compile(r"-?\d{1,20}", re.ASCII)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?|NaN|-?Infinity", re.ASCII)
_INT64, _UINT64 = range(-(2**63), 2**63), range(2**64)


def read_json(body: bytes, census: Census) -> Iterator[LogRecord]:
    """The request's log records in order.

    Raises:
        UnreadableError: the body is not JSON as far as its log records can be told apart, or of another form.
        TooManyError: it has more parts than the census admits.
    """
    try:
        require_end(body)
        for resource_logs in _repeated(body, 0, "resourceLogs", census):
            resource = _resource(body, resource_logs)
            for scope_logs in _repeated(body, resource_logs, "scopeLogs", census):
                for begin in _repeated(body, scope_logs, "logRecords", census):
                    yield _log_record(value_at(body, begin), resource)
    except BrokenError as broken:
        raise UnreadableError(f"the body is not an ExportLogsServiceRequest in OTLP/JSON: {broken}") from None


def _repeated(body: bytes, begin: int, name: str, census: Census) -> Iterator[int]:
    for member, value in members(body, begin):
        if member == name:
            for element in elements(body, value):
                census.count()
                yield element


def _resource(body: bytes, begin: int) -> dict[str, object] | Refused:
    try:
        for member, value in members(body, begin):
            if member == "resource":
                return _attributes(_object("resource", orjson.loads(value_at(body, value))).get("attributes"))
    except orjson.JSONDecodeError as error:
        return Refused("resource", "otlp_json", f"is not JSON: {error.msg}")
    except Refused as why:
        return why
    return {}


def _log_record(payload: bytes, resource: dict[str, object] | Refused) -> LogRecord:
    try:
        record = _object(None, orjson.loads(payload))
    except orjson.JSONDecodeError as error:
        return unreadable(payload, Refused(None, "otlp_json", f"is not JSON: {error.msg}"))
    except Refused as why:
        return unreadable(payload, why)
    if not _is_event(record):
        return LogRecord(payload, None)
    if isinstance(resource, Refused):
        return LogRecord(payload, resource)
    try:
        return LogRecord(payload, _event(record, resource))
    except Refused as why:
        return LogRecord(payload, why)


def _is_event(record: Mapping[str, object]) -> bool:
    if record.get("eventName") == EVENT_NAME:
        return True
    attributes = record.get("attributes")
    named = {"key": EVENT_NAME_ATTRIBUTE, "value": {"stringValue": EVENT_NAME}}
    return isinstance(attributes, list) and named in attributes


def _event(record: Mapping[str, object], resource: dict[str, object]) -> Event:
    return Event(
        attributes=resource | _attributes(record.get("attributes")),
        time_unix_nano=_time(record, "timeUnixNano") or _time(record, "observedTimeUnixNano"),
        trace_id=_identifier(record.get("traceId"), TRACE_ID_BYTES),
        span_id=_identifier(record.get("spanId"), SPAN_ID_BYTES),
    )


def _time(record: Mapping[str, object], name: str) -> int:
    value = record.get(name)
    return 0 if value is None else _integer(name, value, _UINT64)


def _identifier(value: object, length: int) -> str:
    try:
        return hexadecimal(bytes.fromhex(value), length) if isinstance(value, str) else ""
    except ValueError:
        return ""


def _attributes(given: object, depth: int = 0) -> dict[str, object]:
    if given is None:
        return {}
    if not isinstance(given, list):
        raise Refused("attributes", "otlp_form", "must be an array of objects with key and value")
    return attributes_of(_pair(one, depth) for one in given)


def _pair(one: object, depth: int) -> tuple[str, object]:
    attribute = _object("attributes", one)
    key = attribute.get("key", "")
    if not isinstance(key, str):
        raise Refused("attributes", "otlp_form", "must have keys that are strings")
    return key, _plain(key, attribute.get("value"), depth)


def _plain(key: str, given: object, depth: int) -> object:
    if depth > _MOST_DEPTH:
        raise Refused(shown(key), "otlp_form", f"is nested deeper than {_MOST_DEPTH} levels")
    values = {} if given is None else _object(key, given)
    for kind, value in values.items():
        if value is None:
            continue
        if kind == "intValue":
            return _integer(key, value, _INT64)
        if kind == "doubleValue":
            return _double(key, value)
        if kind == "arrayValue":
            items = _object(key, value).get("values")
            items = [] if items is None else items
            if not isinstance(items, list):
                raise Refused(shown(key), "otlp_form", "must have an array in arrayValue.values")
            return [_plain(key, item, depth + 1) for item in items]
        if kind == "kvlistValue":
            return _attributes(_object(key, value).get("values"), depth + 1)
        # bytesValue stays the base64 that it is here.
        expected = {"stringValue": str, "boolValue": bool, "bytesValue": str}.get(kind)
        if expected is not None:
            if not isinstance(value, expected):
                raise Refused(shown(key), "otlp_form", f"must have a {expected.__name__} in {kind}")
            return value
    return None


def _integer(key: str, value: object, admitted: range) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value not in admitted:
        raise Refused(shown(key), "otlp_form", "must be a 64-bit integer, as a decimal string or a number")
    return value


def _double(key: str, value: object) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(shown(key), "otlp_form", "must be a number in doubleValue")
    return value


def _object(field: str | None, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Refused(None if field is None else shown(field), "otlp_form", "must be a JSON object")
    return value
