"""What is compared: the judgement of assets.forecasts, the plain rule (Prophet), a z-score; all through one face.

Belongs here: adapting each to `Method`. Does not belong here: what is asked of them (bench_detection.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple, Protocol

import numpy as np
from scipy import stats

from assets.forecasts.panel import Floats, Panel
from benchmarks.plain_prophet import forecast

WINDOW = 30
_FEWEST = 7


class Watched(NamedTuple):
    """What a method says of the newest days, (n, days) each, NaN where it says nothing.

    Attributes:
        p_value: one-sided, of the day alone; high scores have small ones.
        excess: how far the score is above the method's bound, in about sd; positive exactly where it alarms. Its order
            tells what would alarm at another budget.
    """

    p_value: Floats
    excess: Floats


class Ahead(NamedTuple):
    """Point forecast and upper bound of the days after the newest; (n, days)."""

    yhat: Floats
    upper: Floats


class Method(Protocol):
    """Something that judges."""

    def watch(self, panel: Panel, days: int, rate: float) -> Watched:
        """Judge the newest `days` at a nominal `rate` of false alarms a template-day."""

    def ahead(self, panel: Panel, days: int, level: float) -> Ahead:
        """Forecast the `days` after the panel's newest; the upper bound holds with probability `level`."""


def before(panel: Panel, days: int) -> Panel:
    """The panel as it was so many days ago."""
    end = panel.values.shape[1] - days
    return replace(panel, values=panel.values[:, :end], counts=panel.counts[:, :end], events=panel.events[:, :end])


def some_of(panel: Panel, rows: slice) -> Panel:
    """The panel of some templates."""
    return replace(
        panel,
        subjects=panel.subjects[rows],
        values=panel.values[rows],
        counts=panel.counts[rows],
        events=panel.events[rows],
    )


def _by_normal_law(z: Floats, rate: float) -> Watched:
    return Watched(stats.norm.sf(z), z - stats.norm.isf(rate))


class PlainProphet:
    """Default Prophet's bound: one fit before the days judged, which are up to two weeks.

    Fitted weekly it would learn from a change within the second week, so this is the kinder way. A fit is remembered,
    because what is put into the judged days doesn't reach it.
    """

    def __init__(self) -> None:
        self._fits: dict[bytes, tuple[Floats, Floats]] = {}

    def watch(self, panel: Panel, days: int, rate: float) -> Watched:
        """(actual - yhat) / sd against the normal law."""
        yhat, sd = self._forecast(before(panel, days), days)
        return _by_normal_law((panel.values[:, -days:] - yhat) / sd, rate)

    def ahead(self, panel: Panel, days: int, level: float) -> Ahead:
        """Prophet's yhat and its bound in closed form."""
        yhat, sd = self._forecast(panel, days)
        return Ahead(yhat, yhat + stats.norm.ppf(level) * sd)

    def _forecast(self, panel: Panel, days: int) -> tuple[Floats, Floats]:
        key = blake2b(panel.values.tobytes() + bytes([days]), digest_size=16).digest()
        if key not in self._fits:
            self._fits[key] = forecast(panel.values, panel.first_day, days)
        return self._fits[key]


class ZScore:
    """Mean and sd of the 30 days before."""

    def watch(self, panel: Panel, days: int, rate: float) -> Watched:
        """Each day by the 30 before it, of which 7 must have a score."""
        total = panel.values.shape[1]
        parts = [self._moments(panel.values[:, max(day - WINDOW, 0) : day]) for day in range(total - days, total)]
        mean, sd = (np.stack(some, axis=1) for some in zip(*parts, strict=True))
        return _by_normal_law((panel.values[:, -days:] - mean) / sd, rate)

    def ahead(self, panel: Panel, days: int, level: float) -> Ahead:
        """The mean, for every day."""
        mean, sd = (np.repeat(some[:, None], days, axis=1) for some in self._moments(panel.values[:, -WINDOW:]))
        return Ahead(mean, mean + stats.norm.ppf(level) * sd)

    @staticmethod
    def _moments(window: Floats) -> tuple[Floats, Floats]:
        known = np.isfinite(window)
        count = known.sum(axis=1)
        enough = np.where(count >= _FEWEST, count, np.nan)
        mean = np.where(known, window, 0.0).sum(axis=1) / enough
        square = np.where(known, (window - mean[:, None]) ** 2, 0.0).sum(axis=1) / (enough - 1)
        return mean, np.sqrt(square)


METHODS: Mapping[str, Callable[[], Method]] = {"plain Prophet": PlainProphet, "z-score": ZScore}
