"""Where the values of a JSON document lie, without parsing them: each one's bytes as sent, and none spoils another.

Belongs here: brackets, strings and commas. Does not belong here: whether what lies between them is JSON; whoever takes
a slice parses it.
"""

import re
from collections.abc import Iterator

import orjson

_BLANKS = rb"[ \t\n\r]*+"
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
# Brackets so deep within one another are passed over in one step: a log record of OTLP is.
_DEPTH_OF_A_STEP = 4
_NEXT_VALUE = re.compile(_BLANKS + rb'([\[{]|%b|[^\s\[\]{},:"]++)' % _STRING, re.DOTALL)
_PLAIN = rb'(?:[^"\[\]{}]++|%b)' % _STRING
_MOST_DEPTH = 10_000


def _next_bracket() -> re.Pattern[bytes]:
    passed = _PLAIN
    for _ in range(_DEPTH_OF_A_STEP):
        passed = rb"(?:%b|\{%b*+\}|\[%b*+\])" % (_PLAIN, passed, passed)
    return re.compile(passed + rb"*+([\[\]{}])", re.DOTALL)


_NEXT_BRACKET = _next_bracket()
_COLON = re.compile(_BLANKS + b":")
_AFTER_VALUE = re.compile(_BLANKS + rb"([,\]}])")
_BLANK = re.compile(_BLANKS)


class BrokenError(ValueError):
    """The document's values can't be told apart; the message names the byte."""

    def __init__(self, position: int) -> None:
        super().__init__(f"the JSON can't be told apart at byte {position}")


def members(document: bytes, begin: int = 0) -> Iterator[tuple[str, int]]:
    """The members of the object that begins there: name, and where its value begins.

    Raises:
        BrokenError: it is no object, or one that does not end.
    """
    for position in _items(document, begin, b"{", b"}"):
        name = _NEXT_VALUE.match(document, position)
        colon = _COLON.match(document, name.end()) if name else None
        if name is None or colon is None or not name[1].startswith(b'"'):
            raise BrokenError(position)
        try:
            yield orjson.loads(name[1]), colon.end()
        except orjson.JSONDecodeError:
            raise BrokenError(position) from None


def elements(document: bytes, begin: int) -> Iterator[int]:
    """Where the elements of the array that begins there begin; a null is an empty one.

    Raises:
        BrokenError: it is no array, or one that does not end.
    """
    value = _NEXT_VALUE.match(document, begin)
    if value is None or value[1] != b"null":
        yield from _items(document, begin, b"[", b"]")


def value_at(document: bytes, begin: int) -> bytes:
    """The bytes of the value that begins there, without blanks around.

    Raises:
        BrokenError: there is none, or it does not end.
    """
    start, end = _span(document, begin)
    return document[start:end]


def require_end(document: bytes) -> None:
    """Go on only if the document is one value, with blanks around at most."""
    end = _span(document, 0)[1]
    after = _BLANK.match(document, end)
    if after is None or after.end() != len(document):
        raise BrokenError(end)


def _items(document: bytes, begin: int, opening: bytes, closing: bytes) -> Iterator[int]:
    first = _NEXT_VALUE.match(document, begin)
    if first is None or first[1] != opening:
        raise BrokenError(begin)
    position = first.end()
    after = _AFTER_VALUE.match(document, position)
    if after is not None and after[1] == closing:
        return
    while True:
        yield position
        end = _span(document, position)[1]
        if opening == b"{":
            colon = _COLON.match(document, end)
            end = _span(document, colon.end())[1] if colon else end
        after = _AFTER_VALUE.match(document, end)
        if after is None or after[1] not in (b",", closing):
            raise BrokenError(end)
        if after[1] == closing:
            return
        position = after.end()


def _span(document: bytes, begin: int) -> tuple[int, int]:
    value = _NEXT_VALUE.match(document, begin)
    if value is None:
        raise BrokenError(begin)
    position, depth = value.end(), int(value[1] in (b"[", b"{"))
    while depth:
        bracket = _NEXT_BRACKET.match(document, position)
        if bracket is None:
            raise BrokenError(len(document))
        depth += 1 if bracket[1] in b"[{" else -1
        if depth > _MOST_DEPTH:
            raise BrokenError(position)
        position = bracket.end()
    return value.start(1), position
