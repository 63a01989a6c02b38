"""Daily drift histories: from mart rows to one clean, ascending series a template.

Belongs here: what a history is and how untidy rows become one. Does not belong here: reading the mart (assets.py), any
model of the series (bands.py).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import NamedTuple
from uuid import UUID


class Subject(NamedTuple):
    """Whose drift it is."""

    tenant_id: str
    template_id: UUID
    template: str


class DayRow(NamedTuple):
    """One row of marts.drift_history; a day without any drift score has `drift` None."""

    subject: Subject
    date: date
    drift: float | None
    evaluations: int


class Day(NamedTuple):
    """A UTC day with its mean drift score, in [0, 1], and the number of evaluations behind it."""

    date: date
    drift: float
    evaluations: int


@dataclass(frozen=True)
class History:
    """A template's days with a drift score: ascending, each date once, gaps left out."""

    subject: Subject
    days: tuple[Day, ...]

    def before(self, day: date) -> "History":
        """The part of the history that was complete when `day` began."""
        return History(self.subject, tuple(known for known in self.days if known.date < day))

    def without(self, dates: frozenset[date]) -> "History":
        """The history with these dates left out."""
        return History(self.subject, tuple(known for known in self.days if known.date not in dates))

    def newest(self, days: int) -> "History":
        """The last `days` days with data."""
        return History(self.subject, self.days[-days:])

    @property
    def values(self) -> list[float]:
        """The mean drift scores, in order of date."""
        return [day.drift for day in self.days]


def histories(rows: Iterable[DayRow]) -> list[History]:
    """Turn mart rows, in any order, into one history a template, ordered by tenant and template.

    Days without a finite score are dropped: no evaluation of theirs said anything about drift. Rows of the same day
    are merged into their count-weighted mean. Values are clipped to [0, 1]. A template without days has no history.
    """
    usable = sorted((row for row in rows if _is_finite(row.drift)), key=lambda row: (row.subject, row.date))
    return [
        History(subject, tuple(_days(template_rows)))
        for subject, template_rows in groupby(usable, key=lambda row: row.subject)
    ]


def _days(rows: Iterable[DayRow]) -> Iterator[Day]:
    for day, same_day in groupby(rows, key=lambda row: row.date):
        parts = [(row.drift or 0.0, max(row.evaluations, 1), row.evaluations) for row in same_day]
        weight = sum(part[1] for part in parts)
        # fsum, because the order of rows of one day is not fixed and must not reach the last digit.
        mean = math.fsum(value * share for value, share, _ in parts) / weight
        yield Day(day, min(max(mean, 0.0), 1.0), sum(part[2] for part in parts))


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
