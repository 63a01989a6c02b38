"""What is compared: the judgement of assets.forecasts, the plain rule (Prophet's bound), a z-score; with one face.

Belongs here: adapting each to `Method`. Does not belong here: what is asked of them (bench_detection.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from hashlib import blake2b
from typing import NamedTuple, Protocol

import numpy as np
from scipy import stats

from assets.forecasts import prophet_map
from assets.forecasts.judging import judge
from assets.forecasts.panel import Bools, Floats, Panel

WINDOW = 30
_FEWEST = 7


class Watched(NamedTuple):
    """What a method says of the newest days, (n, days) each.

    Attributes:
        p_value: one-sided, of the day alone; high scores have small ones. NaN where it says nothing.
        alarms: false where it says nothing.
    """

    p_value: Floats
    alarms: Bools

    @property
    def judged(self) -> Bools:
        """Where it says something."""
        return np.isfinite(self.p_value)


class Ahead(NamedTuple):
    """Point forecasts of the days after the newest and the ends of their intervals; (n, days)."""

    yhat: Floats
    lower: Floats
    upper: Floats


class Method(Protocol):
    """Something that judges, having learnt what it takes from a whole fleet."""

    def watch(self, panel: Panel, rate: float) -> Watched:
        """Judge the newest days at a nominal `rate` of false alarms a template-day."""

    def ahead(self, panel: Panel, level: float) -> Ahead:
        """Forecast the days after the panel's newest; the interval holds each with probability `level`."""


# From a fleet into which nothing was put, and how many of its newest days will be judged.
Maker = Callable[[Panel, int], Method]


def before(panel: Panel, days: int) -> Panel:
    """The panel as it was so many days ago."""
    end = panel.values.shape[1] - days
    return replace(panel, values=panel.values[:, :end], counts=panel.counts[:, :end], events=panel.events[:, :end])


class Judgement:
    """assets.forecasts.judging, calibrated on the calm fleet: a change in one of many templates hardly moves that."""

    def __init__(self, calm: Panel, days: int) -> None:
        self._days = days
        self._calibrations = judge(calm, judged=days).calibrations

    def watch(self, panel: Panel, rate: float) -> Watched:
        """Both channels' alarms."""
        verdicts = judge(panel, budget=1 / (7 * rate), judged=self._days, calibration=self._calibrations)
        return Watched(verdicts.p_value, verdicts.is_anomaly)

    def ahead(self, panel: Panel, level: float) -> Ahead:
        """Half of the budget is the one-day channel's, whose bounds enclose the days ahead."""
        verdicts = judge(panel, budget=1 / (7 * (1 - level)), judged=0, calibration=self._calibrations)
        return Ahead(verdicts.ahead_yhat, verdicts.ahead_lower, verdicts.ahead_upper)


class PlainProphet:
    """Default Prophet, fitted anew each day on the days before it, and its own bound.

    The fits are the batched ones, which `prophet` answers for (bench_prophet.py): the package itself would take hours.
    """

    def __init__(self, _: Panel, days: int) -> None:
        self._days = days
        self._forecasts: dict[bytes, tuple[Floats, Floats]] = {}

    def watch(self, panel: Panel, rate: float) -> Watched:
        """(actual - yhat) / sd against the normal law."""
        parts = [self._forecast(before(panel, ago), 1) for ago in range(self._days, 0, -1)]
        yhat, sd = (np.concatenate(some, axis=1) for some in zip(*parts, strict=True))
        return _by_normal_law((panel.values[:, -self._days :] - yhat) / sd, rate)

    def ahead(self, panel: Panel, level: float) -> Ahead:
        """Prophet's yhat and its interval."""
        yhat, sd = self._forecast(panel, self._days)
        return _around(yhat, sd, level)

    def _forecast(self, panel: Panel, days: int) -> tuple[Floats, Floats]:
        """Remembered, because the same days are judged at many rates."""
        key = blake2b(panel.values.tobytes() + bytes([days]), digest_size=16).digest()
        if key not in self._forecasts:
            fits = prophet_map.fit(panel.values, panel.first_day)
            first = panel.first_day + timedelta(days=panel.values.shape[1])
            self._forecasts[key] = prophet_map.predict(fits, first, days), prophet_map.spread(fits, first, days)
        return self._forecasts[key]


class ZScore:
    """Mean and sd of the 30 days before, of which 7 must have a score."""

    def __init__(self, _: Panel, days: int) -> None:
        self._days = days

    def watch(self, panel: Panel, rate: float) -> Watched:
        """Against the normal law."""
        parts = [_moments(before(panel, ago).values) for ago in range(self._days, 0, -1)]
        mean, sd = (np.concatenate(some, axis=1) for some in zip(*parts, strict=True))
        return _by_normal_law((panel.values[:, -self._days :] - mean) / sd, rate)

    def ahead(self, panel: Panel, level: float) -> Ahead:
        """The mean, for every day."""
        mean, sd = (np.repeat(some, self._days, axis=1) for some in _moments(panel.values))
        return _around(mean, sd, level)


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """(n, 1) mean and sd of the newest days."""
    window = values[:, -WINDOW:]
    known = np.isfinite(window)
    count = known.sum(axis=1, keepdims=True)
    enough = np.where(count >= _FEWEST, count, np.nan)
    mean = np.where(known, window, 0.0).sum(axis=1, keepdims=True) / enough
    square = np.where(known, (window - mean) ** 2, 0.0).sum(axis=1, keepdims=True) / (enough - 1)
    return mean, np.sqrt(square)


def _by_normal_law(z: Floats, rate: float) -> Watched:
    with np.errstate(invalid="ignore"):
        return Watched(stats.norm.sf(z), z > stats.norm.isf(rate))


def _around(yhat: Floats, sd: Floats, level: float) -> Ahead:
    half = stats.norm.ppf((1 + level) / 2) * sd
    return Ahead(yhat, yhat - half, yhat + half)


METHODS: Mapping[str, Maker] = {"judgement": Judgement, "plain Prophet": PlainProphet, "z-score": ZScore}
