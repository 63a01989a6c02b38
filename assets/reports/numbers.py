"""What a report is made of: a tenant's marts, cut down to what fits on a few pages.

Belongs here: plain values, and how many of them a report shows. Does not belong here: SQL (tables.py), words
(compose.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

WINDOW_DAYS = 30
SHOWN_HISTORY = timedelta(days=45)
SHOWN_AHEAD = timedelta(days=14)
SHOWN_TEMPLATES = 12
SHOWN_PANELS = 6
SHOWN_CHOICES = 4
SHOWN_EXTRACTORS = 6
SHOWN_ALERTS = 15
SHOWN_QUALITY_DAYS = 14
SHOWN_REVIEWS = 10


class Headline(NamedTuple):
    """The tenant and its totals. `as_of` is the newest day with evaluations; without any, the day of the build."""

    name: str
    as_of: date
    first_date: date | None
    last_date: date | None
    today: date
    evaluations_today: int
    total_evaluations: int
    avg_drift_score: float | None
    avg_reliability_score: float | None
    template_count: int
    alert_count: int
    firing_alert_count: int


class Volume(NamedTuple):
    """Evaluations of a day with one decision."""

    date: date
    decision: str
    evaluation_count: int


class Standing(NamedTuple):
    """How one template drifts: its newest day, and the breaches of its forecast's band within the window."""

    template_id: UUID
    template: str
    evaluation_count: int
    breach_count: int
    newest: date
    drift_score: float | None
    drift_avg_7d: float | None
    drift_change_7d: float | None
    drift_p95_30d: float | None
    reliability_avg_7d: float | None


class DriftDay(NamedTuple):
    """The mean drift score of a template's day."""

    date: date
    drift_score: float


class ForecastDay(NamedTuple):
    """What was expected of a template's day, and what came, if it has come."""

    date: date
    yhat: float
    lower: float
    upper: float
    actual: float | None
    is_anomaly: bool


class ExtractorPosterior(NamedTuple):
    """The Beta posterior of one extractor's success rate on a template."""

    extractor_vendor: str
    extractor_model: str
    is_recommended: bool
    p_best: float
    mean: float
    lower: float
    upper: float
    alpha: float
    beta: float
    feedback_count: int


class Alert(NamedTuple):
    """One alert; `template` is empty where the whole tenant is its subject."""

    event_type: str
    status: str
    severity: str
    template: str
    extractor_vendor: str | None
    extractor_model: str | None
    metric: str
    value: float
    threshold: float
    breach_count: int
    started_at: datetime
    resolved_at: datetime | None
    acked_at: datetime | None


class QualityDay(NamedTuple):
    """What is known of a day's evaluations: shares in [0, 1] of those that carry a score or got feedback.

    A day of refused records alone has no shares.
    """

    date: date
    evaluation_count: int
    drift_coverage: float | None
    reliability_coverage: float | None
    feedback_coverage: float | None
    undecided_count: int
    late_count: int
    rejected_count: int
    duplicate_count: int
    conflict_count: int


class Review(NamedTuple):
    """One evaluation that waits for a person."""

    template: str
    extractor_vendor: str
    extractor_model: str
    drift_score: float | None
    reliability_score: float | None
    label: str | None
    created_at: datetime
    evaluation_id: UUID


class Choice(NamedTuple):
    """A template with the posteriors of its extractors, the probable best first; `extractor_count` counts all."""

    template: str
    extractor_count: int
    arms: Sequence[ExtractorPosterior]


class Curve(NamedTuple):
    """One template's drift and its forecast, both in order of date."""

    standing: Standing
    days: Sequence[DriftDay]
    forecasts: Sequence[ForecastDay]


@dataclass(frozen=True)
class Report:
    """All that a report says, before it is put in words.

    The sequences hold what is shown, the worst first; the counts beside them tell how many there are in all.
    """

    tenant_id: str
    headline: Headline
    volumes: Sequence[Volume]
    standings: Sequence[Standing]
    standing_count: int
    curves: Sequence[Curve]
    choices: Sequence[Choice]
    choice_count: int
    alerts: Sequence[Alert]
    recent_alert_count: int
    quality: Sequence[QualityDay]
    reviews: Sequence[Review]
    review_count: int
