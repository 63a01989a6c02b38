"""Lists that may be read over HTTP, as data: their order, and the query parameters that choose from them.

Belongs here: what a list or a parameter is, and the kinds of values. Does not belong here: which lists there are (the
routes say so), how a request is checked against one (`parameters`), SQL.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from assets.evaluations.record_fields import Time

Reader = Callable[[str], object]

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,30})?([eE][+-]?\d{1,3})?", re.ASCII)
_TIME: TypeAdapter[datetime] = TypeAdapter(Time)
_LONGEST_TEXT = 200


@dataclass(frozen=True)
class Kind:
    """A type of value: how it is read from text, and what OpenAPI says of it."""

    read: Reader
    schema: dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """A query parameter."""

    name: str
    kind: Kind
    description: str
    is_required: bool = False


@dataclass(frozen=True)
class Listing:
    """A list that is read page by page.

    Attributes:
        order: sort keys without nulls, the primary key last, so that no two rows are level.
        filters: the parameters that choose rows; `limit` and `cursor` come to them.
    """

    name: str
    summary: str
    order: tuple[tuple[str, Kind], ...]
    filters: Sequence[Parameter] = ()


def one_of(*values: str) -> Kind:
    """One of a few words."""

    def read(text: str) -> str:
        if text not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return text

    return Kind(read, {"type": "string", "enum": list(values)})


def whole_number(smallest: int, largest: int, default: int) -> Kind:
    """A whole number within bounds; the default is what OpenAPI says of a parameter that isn't given."""

    def read(text: str) -> int:
        is_number = text.isascii() and text.isdigit() and len(text) <= len(str(largest))
        number = int(text) if is_number else smallest - 1
        if not smallest <= number <= largest:
            raise ValueError(f"must be a number from {smallest} to {largest}")
        return number

    return Kind(read, {"type": "integer", "minimum": smallest, "maximum": largest, "default": default})


def _text(text: str) -> str:
    if not 1 <= len(text) <= _LONGEST_TEXT or "\0" in text:
        raise ValueError(f"must be 1 to {_LONGEST_TEXT} characters, none of them NUL")
    return text


def _day(text: str) -> date:
    if not _DAY.fullmatch(text):
        raise ValueError("must be a day such as 2026-05-01")
    return date.fromisoformat(text)


def _time(text: str) -> datetime:
    try:
        return _TIME.validate_python(text)
    except ValidationError as error:
        raise ValueError(str(error.errors(include_url=False, include_input=False)[0]["msg"])) from None


def _number(text: str) -> float:
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError("must be a number such as 0.25")
    return number


TEXT = Kind(_text, {"type": "string", "minLength": 1, "maxLength": _LONGEST_TEXT})
DAY = Kind(_day, {"type": "string", "format": "date"})
# What a cursor holds was a time of ours; what a user writes is held to RFC 3339.
MOMENT = Kind(datetime.fromisoformat, {"type": "string", "format": "date-time"})
TIME = Kind(_time, {"type": "string", "format": "date-time"})
NUMBER = Kind(_number, {"type": "number"})
IDENTIFIER = Kind(UUID, {"type": "string", "format": "uuid"})
