"""What may be read at `/v1/dashboard/*`: for each name its mart, its order and its filters. All of it is data.

Belongs here: the whitelist. Does not belong here: how a page is read (`pages`), what the figures mean (the marts).
"""

from dataclasses import dataclass
from typing import Literal

from gateway.listings import DAY, IDENTIFIER, MOMENT, TEXT, Listing, Parameter, one_of
from sensors.outbox import EVENT_TYPES

Comparison = Literal["=", ">=", "<="]


@dataclass(frozen=True, kw_only=True)
class Filter(Parameter):
    """A query parameter that compares one column."""

    column: str
    comparison: Comparison = "="


@dataclass(frozen=True, kw_only=True)
class Dashboard(Listing):
    """One route: the mart it shows.

    Attributes:
        window_days: without the parameter `from`, so many days up to the parameter `to` or the newest day.
    """

    mart: str
    descending: bool = False
    filters: tuple[Filter, ...] = ()
    window_days: int | None = None


_TEMPLATE = Filter("template", TEXT, "Only this template.", column="template")

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
            Filter("from", DAY, "First day; 30 days up to the last one, if not given.", column="date", comparison=">="),
            Filter("to", DAY, "Last day; the tenant's newest, if not given.", column="date", comparison="<="),
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
            Filter(
                "status",
                one_of("pending", "firing", "resolved"),
                "Only alerts that wait to fire, fire, or are over.",
                column="status",
            ),
            Filter("event_type", one_of(*EVENT_TYPES), "Only this rule's.", column="event_type"),
            _TEMPLATE,
        ),
    ),
)
