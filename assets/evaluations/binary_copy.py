"""Rows in PostgreSQL's binary COPY format: the form that costs the server least, with nothing in it to escape.

A field is its length (four bytes) and its value; a row is the number of its fields and the fields; all big-endian.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from struct import Struct, pack
from typing import LiteralString

from storage.database import Connection

NULL = b"\xff\xff\xff\xff"
_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END = b"\xff\xff"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FLOAT = Struct("!id")
_JSONB = Struct("!ib")
_JSONB_VERSION = 1
_LENGTH_OF_UUID = (16).to_bytes(4)
# Its length; dimensions, whether any is null, the elements' type; how many there are, the first one's number.
_ARRAY = Struct("!iiiIii")
_TEXT_OID = 25


def text(value: str | None) -> bytes:
    """A field of type text."""
    if value is None:
        return NULL
    written = value.encode()
    return len(written).to_bytes(4) + written


# Vendors, models and templates come again and again.
repeated_text = lru_cache(maxsize=4096)(text)


def number(value: float) -> bytes:
    """A field of type double precision."""
    return _FLOAT.pack(8, value)


def jsonb(document: bytes) -> bytes:
    """A field of type jsonb, from JSON text."""
    return _JSONB.pack(1 + len(document), _JSONB_VERSION) + document


def halfvec(values: Sequence[float]) -> bytes:
    """A field of pgvector's type halfvec; each value within +-65504."""
    return pack(f"!ihh{len(values)}e", 4 + 2 * len(values), len(values), 0, *values)


def uuid_field(value: uuid.UUID) -> bytes:
    """A field of type uuid."""
    return _LENGTH_OF_UUID + value.bytes


def texts(values: Sequence[str]) -> bytes:
    """A field of type text[], of one dimension; at least one value."""
    elements = b"".join(map(text, values))
    return _ARRAY.pack(_ARRAY.size - 4 + len(elements), 1, 0, _TEXT_OID, len(values), 1) + elements


def microseconds(time: datetime) -> int:
    """An aware time as the value of a timestamptz."""
    return (time - _EPOCH) // _MICROSECOND


def date_of(day: int) -> date:
    """The date that a value of type date stands for."""
    return _EPOCH.date() + timedelta(days=day)


def last_fields(tenant_id: str, *ids: uuid.UUID) -> bytes:
    """The fields that all rows of a batch end with."""
    return text(tenant_id) + b"".join(map(uuid_field, ids))


def copy_rows(connection: Connection, statement: LiteralString, rows: Sequence[bytes], ending: bytes) -> None:
    """Send rows.

    Args:
        connection: within a transaction.
        statement: `copy … from stdin (format binary)`.
        rows: each the number of fields and all fields but the last ones.
        ending: those, the same for every row.
    """
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(b"".join((_HEADER, ending.join(rows), ending, _END)))
