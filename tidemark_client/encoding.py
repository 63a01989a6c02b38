"""A record as one line of JSON, and what can't be one named by its field.

Belongs here: what JSON or the wire can't carry (NaN, a time without an offset). Does not belong here: the contract's
rules, which the server judges by.
"""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tidemark_client.errors import InvalidRecordError

Record = Mapping[str, object] | bytes

# More than this, unpacked, the server takes in no request.
MOST_BYTES_A_RECORD = 8 * 1024 * 1024 - 1

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def to_line(record: Record) -> bytes:
    """The record's line, without its end.

    Args:
        record: a mapping, whose times are aware datetimes or RFC 3339 texts, with UUIDs and numpy's numbers as they
            are; or a JSON document in bytes, which is sent unchanged.

    Raises:
        InvalidRecordError: it can't be sent; the error names the field.
    """
    line = _whole_line(record) if isinstance(record, bytes) else _encoded(record)
    if len(line) > MOST_BYTES_A_RECORD:
        raise InvalidRecordError(None, "too_large", f"has {len(line):,} bytes; at most 8 MiB can be sent")
    return line


def with_id(record: Mapping[str, object]) -> Mapping[str, object]:
    """The record, with a new record_id if it has none."""
    return record if record.get("record_id") is not None else {**record, "record_id": str(uuid.uuid4())}


def identified(record: Record) -> Record:
    """The same, for what may be bytes, which stay as they are."""
    return with_id(record) if isinstance(record, Mapping) else record


def _whole_line(document: bytes) -> bytes:
    line = document.rstrip(b"\r\n")
    # The server takes a byte order mark for the body's, and a line of nothing else for a blank one.
    if not line.removeprefix(_BYTE_ORDER_MARK).strip():
        raise InvalidRecordError(None, "empty", "is empty")
    if b"\n" in line:
        raise InvalidRecordError(None, "line_break", "has a line break in it: write each JSON document in one line")
    return line


def _encoded(record: Mapping[str, object]) -> bytes:
    if not isinstance(record, Mapping):
        raise InvalidRecordError(None, "type", f"is a {type(record).__name__}: give a mapping, or JSON as bytes")
    try:
        return _dumped(record)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _first_problem(record, error) from None


def _dumped(value: object) -> bytes:
    # A mapping that is no dict is unknown to json.
    plain = dict(value) if isinstance(value, Mapping) else value
    return json.dumps(plain, default=_plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: Any) -> object:
    if isinstance(value, datetime):
        # UTC, because the offsets of old local times have seconds, which RFC 3339 has not.
        if value.utcoffset() is None:
            raise InvalidRecordError(
                None, "naive_datetime", "is a time without an offset: give it one, such as datetime.now(timezone.utc)"
            )
        return value.astimezone(UTC).isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    # numpy's scalars and arrays, without importing it.
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    raise InvalidRecordError(None, "type", f"is a {type(value).__name__}, which has no form in JSON")


def _first_problem(record: Mapping[str, object], whole: Exception) -> InvalidRecordError:
    for name, value in record.items():
        inner = value.items() if name == "features" and isinstance(value, Mapping) else ()
        for path, part in [*((f"features.{key}", item) for key, item in inner), (str(name), value)]:
            try:
                _dumped({str(name): part})
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                return _named(path, error)
    return _named(None, whole)


def _named(field: str | None, error: Exception) -> InvalidRecordError:
    # A name that isn't text itself must not break the message that tells so.
    shown = field.encode(errors="backslashreplace").decode() if field else None
    if isinstance(error, InvalidRecordError):
        return InvalidRecordError(shown, error.code, error.reason)
    if isinstance(error, UnicodeError):
        return InvalidRecordError(shown, "encoding", "has half of a surrogate pair, which is no Unicode text")
    if isinstance(error, ValueError) and "JSON compliant" in str(error):
        return InvalidRecordError(shown, "not_finite", "is NaN or infinite: leave the field out, or send None")
    return InvalidRecordError(shown, "type", f"has no form in JSON: {error}")
