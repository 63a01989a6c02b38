"""Poison as OpenTelemetry sends it, in both encodings: log records whose attributes are a record's fields.

Belongs here: what of `poison.POISON` each encoding can say and how, and good events around it. Does not belong here:
the door.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from otlp import EVENT, request_of_bytes, varint
from poison import POISON, Poison, good

_NAME = "event.name"
_PREFIX = "tidemark."
# Beyond what either encoding's parser follows, and not so deep that a request's JSON can't be told apart any more.
_DEPTH = 2_000

_NO_LINES = "a request has no lines"
_NO_ESCAPES = "protobuf's strings have no escapes"
_64_BITS = "protobuf's integers have 64 bits"
_AS_OBJECT = "a log record is always a message"
_WHOLE = "brackets or strings that don't end leave no request: 400, and nothing lands"
_OTHER_LOG = "nothing in it says that it is an evaluation: another kind of log, which is passed over"

# Poison that an encoding can't carry, and why.
CAN_NOT_SAY = {
    "protobuf": {
        "a NUL written raw": "protobuf has one way to write a NUL, which is poison of its own",
        "1e400": "protobuf's number for it is infinity, which is poison of its own",
        "a whole number of 400 digits": _64_BITS,
        "a whole number of 5000 digits": _64_BITS,
        "a feature beyond 64 bits": _64_BITS,
        "a lone surrogate, escaped": _NO_ESCAPES,
        "a lone surrogate in a feature's name": _NO_ESCAPES,
        "a byte order mark within the file": _NO_LINES,
        "two records on a line": _NO_LINES,
        "an array": _AS_OBJECT,
        "a bare number": _AS_OBJECT,
        "no JSON": _OTHER_LOG,
        "a record in UTF-16": _OTHER_LOG,
        "a gzipped record, cut short": _OTHER_LOG,
    },
    "json": {
        "a byte order mark within the file": _NO_LINES,
        "two records on a line": _WHOLE,
        "a line cut short": _WHOLE,
        "no JSON": _OTHER_LOG,
        "a bare number": _OTHER_LOG,
        "a record in UTF-16": _WHOLE,
        "a gzipped record, cut short": _WHOLE,
    },
}

# What an encoding refuses before there is a record: field and code.
_SAYS_OF = {
    "a key twice": ("tidemark.drift_score", "otlp_form"),
    "a key twice, once null": ("tidemark.label", "otlp_form"),
    "a key twice, once escaped": ("tidemark.template", "otlp_form"),
    "a feature twice": ("x", "otlp_form"),
    "a whole number of 400 digits": ("tidemark.score", "otlp_form"),
    "a whole number of 5000 digits": ("tidemark.score", "otlp_form"),
    "a feature beyond 64 bits": ("x", "otlp_form"),
    "an array": (None, "otlp_form"),
}
_SAYS_OF_WHAT_IS_UNREADABLE = {"protobuf": (None, "otlp_protobuf"), "json": (None, "otlp_json")}


@dataclass(frozen=True)
class PoisonEvent:
    """A log record that must end as one dead letter; `field` and `code` as in `Poison`."""

    name: str
    payload: bytes
    field: str | None
    code: str


class _Members(list[tuple[str, Any]]):
    """An object, in which a name may be there twice."""


def _members(record: dict[str, Any]) -> _Members:
    return _Members(record.items())


def _any_value(value: Any) -> AnyValue:
    if isinstance(value, _Members):
        return AnyValue(kvlist_value=KeyValueList(values=_pairs(value)))
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=map(_any_value, value)))
    kinds: dict[type, str] = {bool: "bool", int: "int", float: "double", str: "string"}
    return AnyValue() if value is None else AnyValue(**{f"{kinds[type(value)]}_value": value})  # type: ignore[arg-type]


def _pairs(members: _Members) -> list[KeyValue]:
    return [KeyValue(key=name, value=_any_value(value)) for name, value in members]


def _any_json(value: Any) -> dict[str, Any]:
    if isinstance(value, _Members):
        return {"kvlistValue": {"values": _json_pairs(value)}}
    if isinstance(value, list):
        return {"arrayValue": {"values": list(map(_any_json, value))}}
    if isinstance(value, float) and not math.isfinite(value):
        return {"doubleValue": str(value).replace("inf", "Infinity").replace("nan", "NaN")}
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
    return {} if value is None else {kinds[type(value)]: str(value) if type(value) is int else value}


def _json_pairs(members: _Members) -> list[dict[str, Any]]:
    return [{"key": name, "value": _any_json(value)} for name, value in members]


def _event(members: _Members) -> _Members:
    # By attribute and first, so that what is cut short still says what it was.
    return _Members([(_NAME, EVENT), *((_PREFIX + name, value) for name, value in members)])


def _protobuf(members: _Members) -> bytes:
    return LogRecord(attributes=_pairs(_event(members))).SerializeToString()


def _json(members: _Members) -> bytes:
    return json.dumps({"attributes": _json_pairs(_event(members))}, separators=(",", ":")).encode()


_WRITERS: dict[str, Callable[[_Members], bytes]] = {"protobuf": _protobuf, "json": _json}


def _raw(write: Callable[[_Members], bytes], template: bytes) -> bytes:
    """A good event whose template is these bytes, which may be no text."""
    placeholder = "~" * len(template)
    return write(_members(good("poison", template=placeholder))).replace(placeholder.encode(), template)


def _nested_protobuf(*numbers: int, beside: bytes = b"") -> bytes:
    """Features of messages within messages, whose members have these numbers in turn."""
    value = b""
    for _ in range(_DEPTH):
        for number in numbers:
            value = (beside if number == numbers[0] else b"") + _member(number, value)
    feature = _member(1, b"tidemark.features") + _member(2, value)
    return _protobuf(_members(good("poison"))) + _member(6, feature)


def _member(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def _nested_json(opened: bytes, closed: bytes) -> bytes:
    good_one = _json(_members(good("poison", features="~")))
    return good_one.replace(b'{"stringValue":"~"}', opened * _DEPTH + closed * _DEPTH)


# What an encoding says in a way of its own.
_OTHERWISE: dict[str, dict[str, bytes]] = {
    "protobuf": {
        "a lone surrogate, raw": _raw(_protobuf, b"\xed\xa0\x80"),
        "bytes that are not UTF-8": _raw(_protobuf, b"\xff\xfe"),
        "a record in Latin-1": _raw(_protobuf, "\u00fc".encode("latin-1")),
        "a line cut short": _protobuf(_members(good("poison")))[:-20],
        # AnyValue's array_value is 5 and its kvlist_value 6, their values 1, a KeyValue's key and value 1 and 2.
        "100,000 open brackets": _nested_protobuf(1, 5),
        "100,000 open objects": _nested_protobuf(2, 1, 6, beside=_member(1, b"a")),
    },
    "json": {
        "a NUL written raw": _raw(_json, b"a\x00b"),
        "a lone surrogate, raw": _raw(_json, b"\xed\xa0\x80"),
        "bytes that are not UTF-8": _raw(_json, b"\xff\xfe"),
        "a record in Latin-1": _raw(_json, "\u00fc".encode("latin-1")),
        "a whole number of 5000 digits": _json(_members(good("poison", score="~"))).replace(
            b'{"stringValue":"~"}', b'{"intValue":"1' + b"0" * 5000 + b'"}'
        ),
        "1e400": _json(_members(good("poison", drift_score="~"))).replace(
            b'{"stringValue":"~"}', b'{"doubleValue":1e400}'
        ),
        "an array": b"[" + _json(_members(good("poison"))) + b"]",
        "100,000 open brackets": _nested_json(b'{"arrayValue":{"values":[', b"]}}"),
        "100,000 open objects": _nested_json(b'{"kvlistValue":{"values":[{"key":"a","value":', b"}]}}"),
    },
}


def poison_events(encoding: str) -> list[PoisonEvent]:
    """All of `POISON` that the encoding, `protobuf` or `json`, can say."""
    return [_said(encoding, poison) for poison in POISON if poison.name not in CAN_NOT_SAY[encoding]]


def _said(encoding: str, poison: Poison) -> PoisonEvent:
    payload = _OTHERWISE[encoding].get(poison.name)
    escaped_surrogate = b"\\ud8" in poison.payload or b"\\udf" in poison.payload
    if payload is None:
        payload = _WRITERS[encoding](json.loads(poison.payload.decode(), object_pairs_hook=_Members))
    if poison.name in _SAYS_OF:
        field, code = _SAYS_OF[poison.name]
    elif poison.name in _OTHERWISE[encoding] or escaped_surrogate:
        field, code = _SAYS_OF_WHAT_IS_UNREADABLE[encoding]
    else:
        field, code = poison.field, poison.code
    return PoisonEvent(poison.name, payload, field, code)


def good_events(encoding: str, numbers: Sequence[str]) -> list[bytes]:
    """Log records that the door lands."""
    return [_WRITERS[encoding](_members(good(number))) for number in numbers]


def request_body(encoding: str, events: Sequence[bytes]) -> bytes:
    """A request of one resource, which says nothing, with these log records."""
    if encoding == "protobuf":
        return request_of_bytes(events)
    return b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + b",".join(events) + b"]}]}]}"
