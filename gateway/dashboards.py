"""What may be read at `/v1/dashboard/*`: for each name its mart, its order and its filters. All of it is data.

Belongs here: the whitelist. Does not belong here: how a page is read (`pages`), what the figures mean (the marts).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from sensors.outbox import EVENT_TYPES

Reader = Callable[[str], object]
Comparison = Literal["=", ">=", "<="]

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_LONGEST_TEXT = 200


@dataclass(frozen=True)
class Kind:
    """A type of value: how it is read from text, and what OpenAPI says of it."""

    read: Reader
    schema: dict[str, Any]


@dataclass(frozen=True)
class Filter:
    """A query parameter that compares one column."""

    name: str
    column: str
    kind: Kind
    description: str
    comparison: Comparison = "="


@dataclass(frozen=True)
class Dashboard:
    """One route: the mart it shows.

    Attributes:
        order: columns without nulls, the primary key last, so that no two rows are level.
        window_days: without the parameter `from`, so many days up to the parameter `to` or the newest day.
    """

    name: str
    mart: str
    summary: str
    order: tuple[tuple[str, Kind], ...]
    descending: bool = False
    filters: tuple[Filter, ...] = ()
    window_days: int | None = None


def _text(text: str) -> str:
    if not 1 <= len(text) <= _LONGEST_TEXT or "\0" in text:
        raise ValueError(f"must be 1 to {_LONGEST_TEXT} characters, none of them NUL")
    return text


def _day(text: str) -> date:
    if not _DAY.fullmatch(text):
        raise ValueError("must be a day such as 2026-05-01")
    return date.fromisoformat(text)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _one_of(*values: str) -> Kind:
    def read(text: str) -> str:
        if text not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return text

    return Kind(read, {"type": "string", "enum": list(values)})


TEXT = Kind(_text, {"type": "string", "minLength": 1, "maxLength": _LONGEST_TEXT})
DAY = Kind(_day, {"type": "string", "format": "date"})
MOMENT = Kind(_moment, {"type": "string", "format": "date-time"})
IDENTIFIER = Kind(UUID, {"type": "string", "format": "uuid"})

_TEMPLATE = Filter("template", "template", TEXT, "Only this template.")

DASHBOARDS = (
    Dashboard(
        name="overview",
        mart="overview",
        summary="The tenant's totals of all days and of today.",
        order=(("tenant_id", TEXT),),
    ),
    Dashboard(
        name="templates",
        mart="template_performance",
        summary="One row a template: counts, mean scores and success of all days.",
        order=(("template", TEXT), ("template_performance_id", TEXT)),
    ),
    Dashboard(
        name="drift-trends",
        mart="drift_trends",
        summary="One row a template and day, the newest first, with moving averages.",
        order=(("date", DAY), ("drift_trends_id", TEXT)),
        descending=True,
        filters=(
            Filter("from", "date", DAY, "First day; 30 days up to the last one, if not given.", ">="),
            Filter("to", "date", DAY, "Last day; the tenant's newest, if not given.", "<="),
            _TEMPLATE,
        ),
        window_days=30,
    ),
    Dashboard(
        name="extractors",
        mart="extractor_comparison",
        summary="One row an extractor of a template: the extractors side by side.",
        order=(
            ("template", TEXT),
            ("extractor_vendor", TEXT),
            ("extractor_model", TEXT),
            ("extractor_comparison_id", TEXT),
        ),
        filters=(_TEMPLATE,),
    ),
    Dashboard(
        name="alerts",
        mart="recent_alerts",
        summary="One row an alert that fires or began of late, the newest first.",
        order=(("started_at", MOMENT), ("alert_id", IDENTIFIER)),
        descending=True,
        filters=(
            Filter("status", "status", _one_of("firing", "resolved"), "Only alerts that still fire, or do no more."),
            Filter("event_type", "event_type", _one_of(*EVENT_TYPES), "Only this rule's."),
            _TEMPLATE,
        ),
    ),
)
