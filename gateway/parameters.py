"""Query parameters against what a route knows: unknown ones, repeated ones and values out of range, named all at once.

Belongs here: from the text of a request to checked values. Does not belong here: which parameters there are
(`listings`, the routes), SQL.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from gateway.cursors import CursorError, Position, read_cursor, write_cursor
from gateway.listings import Kind, Listing, Parameter, whole_number
from gateway.problems import BadParametersError

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000

_LIMIT = Parameter("limit", whole_number(1, LARGEST_LIMIT, DEFAULT_LIMIT), "How many rows at most.")
_ANY_TEXT = Kind(str, {"type": "string"})
_CURSOR = Parameter("cursor", _ANY_TEXT, "`next_cursor` of the page before, with the same filters.")
_PAGING = (_LIMIT, _CURSOR)

Problems = list[tuple[str, str]]


@dataclass(frozen=True)
class Query:
    """A checked request for one page.

    Attributes:
        values: the filters given.
        after: the sort keys of the last row of the page before, by column.
        since: the first day of the window, as the page before had it.
        identity: tells whose rows and which of them, whatever the page.
    """

    tenant_id: str
    values: Mapping[str, Any]
    limit: int
    after: Mapping[str, Any] | None
    since: date | None
    identity: tuple[str, ...]

    def cursor_after(self, keys: Iterable[str], since: date | None = None) -> str:
        """The cursor of the page that begins after the row of these sort keys."""
        return write_cursor(Position(tuple(keys), None if since is None else since.isoformat()), self.identity)


def read_query(listing: Listing, tenant_id: str, given: Iterable[tuple[str, str]], *within: str) -> Query:
    """Check a request for a page of a list; `within` names what the list belongs to, where there are several.

    Raises:
        BadParametersError: naming each parameter that can't be used, and why.
    """
    problems: Problems = []
    texts = _once_each([*listing.filters, *_PAGING], given, problems)
    cursor = texts.pop("cursor", None)
    limit = _values(_PAGING, {"limit": texts.pop("limit", str(DEFAULT_LIMIT))}, problems).get("limit", 0)
    values = _values(listing.filters, texts, problems)
    identity = (tenant_id, listing.name, *within, *(part for pair in sorted(texts.items()) for part in pair))
    after, since = None, None
    if cursor is not None and not problems:
        after, since = _continued(listing, cursor, identity, problems)
    if problems:
        raise BadParametersError(problems)
    return Query(tenant_id, values, limit, after, since, identity)


def read_values(known: Sequence[Parameter], given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Check the parameters of a route that has no pages; those not given are missing in the result.

    Raises:
        BadParametersError: naming each parameter that can't be used or is missing, and why.
    """
    problems: Problems = []
    values = _values(known, _once_each(known, given, problems), problems)
    if problems:
        raise BadParametersError(problems)
    return values


def openapi_parameters(known: Sequence[Parameter]) -> list[dict[str, Any]]:
    """What OpenAPI says of parameters."""
    return [
        {
            "name": parameter.name,
            "in": "query",
            "required": parameter.is_required,
            "schema": parameter.kind.schema,
            "description": parameter.description,
        }
        for parameter in known
    ]


def openapi_page_parameters(listing: Listing) -> list[dict[str, Any]]:
    """What OpenAPI says of a list's parameters."""
    return openapi_parameters([*listing.filters, *_PAGING])


def _once_each(known: Sequence[Parameter], given: Iterable[tuple[str, str]], problems: Problems) -> dict[str, str]:
    names = [parameter.name for parameter in known]
    texts: dict[str, str] = {}
    for name, text in given:
        if name not in names:
            problems.append((name, f"unknown; known are {', '.join(names) or 'none'}"))
        elif name in texts:
            problems.append((name, "given more than once"))
        texts[name] = text
    return texts


def _values(known: Sequence[Parameter], texts: Mapping[str, str], problems: Problems) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for parameter in known:
        if parameter.name in texts:
            try:
                values[parameter.name] = parameter.kind.read(texts[parameter.name])
            except ValueError as error:
                problems.append((parameter.name, str(error)))
        elif parameter.is_required:
            problems.append((parameter.name, "is missing"))
    if "from" in values and "to" in values and values["from"] > values["to"]:
        problems.append(("from", "is after `to`"))
    return values


def _continued(
    listing: Listing, cursor: str, identity: tuple[str, ...], problems: Problems
) -> tuple[dict[str, Any] | None, date | None]:
    try:
        position = read_cursor(cursor, identity)
        pairs = zip(listing.order, position.keys, strict=True)
        after = {column: kind.read(text) for (column, kind), text in pairs}
        return after, None if position.since is None else date.fromisoformat(position.since)
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error) if isinstance(error, CursorError) else "it can't be read"
        problems.append(("cursor", f"{reason}; start again without it"))
        return None, None
