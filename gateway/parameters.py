"""Query parameters against the whitelist: unknown ones, repeated ones and values out of range are named, all at once.

Belongs here: from the text of a request to a checked query. Does not belong here: SQL (`pages`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from gateway.cursors import CursorError, read_cursor
from gateway.dashboards import Dashboard
from gateway.problems import BadParametersError

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000

_LONGEST_LIMIT = 6


@dataclass(frozen=True)
class Query:
    """A checked request for one page.

    Attributes:
        values: the filters given.
        after: the sort keys of the last row of the page before, by column.
        since: the first day of the window, as the page before had it.
        identity: tells whose rows and which of them, whatever the page.
    """

    dashboard: Dashboard
    tenant_id: str
    values: Mapping[str, Any]
    limit: int
    after: Mapping[str, Any] | None
    since: date | None
    identity: tuple[str, ...]


def read_query(dashboard: Dashboard, tenant_id: str, given: Iterable[tuple[str, str]]) -> Query:
    """Check a request's parameters.

    Raises:
        BadParametersError: naming each that can't be used, and why.
    """
    problems: list[tuple[str, str]] = []
    texts = _once_each(dashboard, given, problems)
    limit = _limit(texts.pop("limit", str(DEFAULT_LIMIT)), problems)
    cursor = texts.pop("cursor", None)
    values = _values(dashboard, texts, problems)
    identity = (tenant_id, dashboard.name, *(part for pair in sorted(texts.items()) for part in pair))
    after, since = None, None
    if cursor is not None and not problems:
        after, since = _continued(dashboard, cursor, identity, problems)
    if problems:
        raise BadParametersError(problems)
    return Query(dashboard, tenant_id, values, limit, after, since, identity)


def openapi_parameters(dashboard: Dashboard) -> list[dict[str, Any]]:
    """What OpenAPI says of a route's parameters."""
    limit = {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": DEFAULT_LIMIT}
    described = [(known.name, known.kind.schema, known.description) for known in dashboard.filters]
    described.append(("limit", limit, "How many rows at most."))
    described.append(("cursor", {"type": "string"}, "`next_cursor` of the page before, with the same filters."))
    return [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": description}
        for name, schema, description in described
    ]


def _once_each(
    dashboard: Dashboard, given: Iterable[tuple[str, str]], problems: list[tuple[str, str]]
) -> dict[str, str]:
    known = [*(known.name for known in dashboard.filters), "limit", "cursor"]
    texts: dict[str, str] = {}
    for name, text in given:
        if name not in known:
            problems.append((name, f"unknown; known are {', '.join(known)}"))
        elif name in texts:
            problems.append((name, "given more than once"))
        texts[name] = text
    return texts


def _limit(text: str, problems: list[tuple[str, str]]) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= _LONGEST_LIMIT
    limit = int(text) if is_number else 0
    if not 1 <= limit <= LARGEST_LIMIT:
        problems.append(("limit", f"must be a number from 1 to {LARGEST_LIMIT}"))
    return limit


def _values(dashboard: Dashboard, texts: Mapping[str, str], problems: list[tuple[str, str]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for known in dashboard.filters:
        if known.name in texts:
            try:
                values[known.name] = known.kind.read(texts[known.name])
            except ValueError as error:
                problems.append((known.name, str(error)))
    if "from" in values and "to" in values and values["from"] > values["to"]:
        problems.append(("from", "is after `to`"))
    return values


def _continued(
    dashboard: Dashboard, cursor: str, identity: tuple[str, ...], problems: list[tuple[str, str]]
) -> tuple[dict[str, Any] | None, date | None]:
    try:
        position = read_cursor(cursor, identity)
        pairs = zip(dashboard.order, position.keys, strict=True)
        after = {column: kind.read(text) for (column, kind), text in pairs}
        return after, None if position.since is None else date.fromisoformat(position.since)
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error) if isinstance(error, CursorError) else "it can't be read"
        problems.append(("cursor", f"{reason}; start again without it"))
        return None, None
