"""Cursors: where a page ended, as text that its receiver can only hand back.

A cursor carries the sort keys of the last row and belongs to one query of one tenant. Its mark catches what was cut,
changed or used elsewhere. It keeps no secret and needs none: whoever forged one could still only choose where in his
own rows a page begins.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BinasciiError
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import orjson

_MARK_BYTES = 12


class CursorError(ValueError):
    """The text isn't a cursor of this query."""


@dataclass(frozen=True)
class Position:
    """Where the next page begins: after the row of these sort keys, and not before the day `since`, if given."""

    keys: tuple[str, ...]
    since: str | None = None


def write_cursor(position: Position, query: Sequence[str]) -> str:
    """The cursor of a position in a query; `query` is whatever tells queries apart."""
    payload = orjson.dumps([position.since, *position.keys])
    return urlsafe_b64encode(_mark(payload, query) + payload).rstrip(b"=").decode()


def read_cursor(text: str, query: Sequence[str]) -> Position:
    """The position that a cursor of this query means.

    Raises:
        CursorError: it was changed, or belongs to another query.
    """
    try:
        content = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        mark, payload = content[:_MARK_BYTES], content[_MARK_BYTES:]
        since, *keys = orjson.loads(payload)
    except (BinasciiError, ValueError, TypeError) as error:
        raise CursorError("it can't be read") from error
    # Written again, because base64 reads several texts as the same bytes.
    position = Position(tuple(keys), since)
    if mark != _mark(payload, query) or write_cursor(position, query) != text:
        raise CursorError("it was changed, or belongs to another query")
    return position


def _mark(payload: bytes, query: Sequence[str]) -> bytes:
    return sha256(orjson.dumps(list(query)) + b"\n" + payload).digest()[:_MARK_BYTES]
