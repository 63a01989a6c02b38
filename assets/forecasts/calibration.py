"""Calibration: how improbable an innovation is, by what the fleet's own past innovations were.

The innovations of all templates are pooled by the template's age and tails at that day; their quantiles, with a
generalised Pareto tail where they run out, turn an innovation into a normal score `u` and a one-sided p-value. Where
few were seen the quantiles lean on those of all templates, and these on a heavy-tailed law, so that one template alone
has usable bounds.
Of a tenant's values nothing is shown to another: only these quantiles are shared.

Belongs here: p-values and their inverse, the table that is stored, the digest of a day's discoveries. Does not belong
here: the sequential test (cusum.py), the days used (judging.py).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

from assets.forecasts.innovations import HOLD, QUARANTINE, STILL_HELD
from assets.forecasts.panel import Bools, Floats
from assets.forecasts.state import TAIL_CLASSES, Tails

Ints = npt.NDArray[np.intp]

AGES = np.array([7, 14, 30, 60, 120])  # scored days at which the next bucket begins
OLD = 4  # from this bucket on templates are told apart by their tails
BUCKETS = OLD + (len(AGES) + 1 - OLD) * TAIL_CLASSES
GRID = np.linspace(-4.5, 4.5, 37)  # normal scores at which quantiles are kept: p from 3e-6 to 1 - 3e-6
POOLED_DAYS = 400_000  # template-days a bucket: 1/360 is then met about a thousand times
TAIL_SHARE = 0.025  # of the pooled days, for the Pareto tail
TAIL_AT_LEAST = 40
ENOUGH_BEYOND = 30.0  # a quantile with fewer innovations beyond it is taken from the tail's law
LEAN_DAYS, LEAN_TEMPLATES = 10.0, 5.0  # innovations beyond a quantile, and templates, that weigh as much as the prior
CENTRE_DAYS, TAIL_DAYS = 2000.0, 5000.0  # template-days at which its width, and its tail's law, are half believed
PRIOR_FREEDOM = 8.0
INCIDENT_DAYS = 7


@dataclass(frozen=True)
class Quantiles:
    """(BUCKETS, len(GRID)) innovations at the normal scores of GRID, ascending in each row."""

    table: Floats

    def normal_scores(self, innovations: Floats, buckets: Ints) -> Floats:
        """Innovations, of any shape, to normal scores; NaN stays NaN."""
        return self._apply(innovations, buckets, forward=True)

    def innovations(self, normal_scores: Floats, buckets: Ints) -> Floats:
        """The inverse of normal_scores."""
        return self._apply(normal_scores, buckets, forward=False)

    def _apply(self, values: Floats, buckets: Ints, *, forward: bool) -> Floats:
        result = np.full(values.shape, np.nan)
        for bucket, row in enumerate(self.table):
            chosen = buckets == bucket
            if chosen.any():
                source, target = (row, GRID) if forward else (GRID, row)
                result[chosen] = _interpolate(values[chosen], source, target)
        return result


def p_values(normal_scores: Floats) -> Floats:
    """The probability of an innovation at least as high."""
    p: Floats = ndtr(-normal_scores)
    return p


def normal_score_of(rate: Floats | float) -> Floats:
    """The normal score that is exceeded at this rate."""
    score: Floats = -ndtri(np.asarray(rate, dtype=float))
    return score


def buckets_of(ages: Floats, tails: Tails) -> Ints:
    """The bucket of templates with so many scored days behind them and tails of these classes (state.py)."""
    by_age = np.searchsorted(AGES, ages, side="right")
    buckets: Ints = np.where(by_age < OLD, by_age, OLD + (by_age - OLD) * TAIL_CLASSES + tails)
    return buckets


def learn(innovations: Floats, buckets: Ints) -> Quantiles:
    """Learn the quantiles from past innovations (n, T), NaN where nothing was scored, in their buckets (n, T)."""
    buckets = np.where(np.isnan(innovations), -1, buckets)
    prior = student.ppf(ndtr(GRID), PRIOR_FREEDOM) * np.sqrt((PRIOR_FREEDOM - 2.0) / PRIOR_FREEDOM)
    fleet = _lean(_pooled(innovations, buckets >= 1), prior)
    table = np.array([_lean(_pooled(innovations, buckets == bucket), fleet) for bucket in range(BUCKETS)])
    return Quantiles(table)


def discoveries(p: Floats, share: float) -> Bools:
    """Which of a day's p-values stand out at a false-discovery share (Benjamini and Hochberg 1995); NaN never does."""
    tested = np.flatnonzero(~np.isnan(p))
    found = np.zeros(p.shape, dtype=bool)
    if len(tested):
        ordered = np.sort(p[tested])
        passing = np.flatnonzero(ordered <= share * np.arange(1, len(tested) + 1) / len(tested))
        if len(passing):
            found[tested] = p[tested] <= ordered[passing[-1]]
    return found


def without_incidents(innovations: Floats) -> Floats:
    """Innovations (n, D), NaN on all days but the first of each run of INCIDENT_DAYS or more that were held back.

    Chance, of which quantiles are to tell, hardly makes such runs. Two weeks of four templates would widen the bounds
    of all of a fleet of sixty threefold, for a year.
    """
    ordinary = innovations.copy()
    places = np.zeros(innovations.shape, dtype=np.int64)  # of days in their runs, from 1; 0 if not held back
    held = np.zeros(len(innovations), dtype=np.int64)
    for day in range(innovations.shape[1]):
        size = np.abs(innovations[:, day])
        far_off = size > np.where(held > 0, STILL_HELD, HOLD)
        held = np.where(far_off, held % QUARANTINE + 1, np.where(np.isnan(size), held, 0))
        places[:, day] = np.where(far_off, held, 0)
    rest = np.zeros(len(innovations), dtype=np.int64)
    for day in range(innovations.shape[1] - 1, -1, -1):
        place = places[:, day]
        rest = np.where(place > 0, np.maximum(rest, place), np.where(np.isnan(innovations[:, day]), rest, 0))
        ordinary[(place > 1) & (rest >= INCIDENT_DAYS), day] = np.nan
        rest[place == 1] = 0
    return ordinary


def _pooled(innovations: Floats, chosen: Bools) -> tuple[Floats, int]:
    """The newest POOLED_DAYS innovations, sorted, and of how many templates."""
    by_day = chosen.sum(axis=0)[::-1].cumsum()
    days = int(np.searchsorted(by_day, POOLED_DAYS)) + 1
    recent = chosen[:, -days:]
    return np.sort(innovations[:, -days:][recent]), int(recent.any(axis=1).sum())


def _lean(pooled: tuple[Floats, int], prior: Floats) -> Floats:
    ordered, templates = pooled
    if not len(ordered):
        return prior
    beyond = len(ordered) * ndtr(-np.abs(GRID))
    trust = beyond / (beyond + LEAN_DAYS) * templates / (templates + LEAN_TEMPLATES)
    # Far beyond what was seen the tail's law is as good as the data it was fitted to.
    fitted = min(len(ordered) / (len(ordered) + CENTRE_DAYS), templates / (templates + LEAN_TEMPLATES))
    trust = np.maximum(trust, np.where(beyond < ENOUGH_BEYOND, fitted * len(ordered) / (len(ordered) + TAIL_DAYS), 0.0))
    prior = _moved(prior, ordered, fitted)
    leaned: Floats = np.maximum.accumulate(trust * _quantiles(ordered) + (1.0 - trust) * prior)
    return leaned


def _moved(prior: Floats, ordered: Floats, trust: float) -> Floats:
    """The prior's shape, with centre and width moved towards those of what was seen."""
    low, centre, high = np.interp(ndtr([-1.0, 0.0, 1.0]) * (len(ordered) - 1), np.arange(len(ordered)), ordered)
    before = np.interp([-1.0, 0.0, 1.0], GRID, prior)
    width = float(np.clip((high - low) / max(before[2] - before[0], 1e-6), 0.2, 5.0)) ** trust
    moved: Floats = before[1] + trust * (centre - before[1]) + width * (prior - before[1])
    return moved


def _quantiles(ordered: Floats) -> Floats:
    n = len(ordered)
    ranks = (n + 1) * ndtr(GRID) - 1.0
    found = np.interp(ranks, np.arange(n), ordered)
    sparse = n * ndtr(-np.abs(GRID)) < ENOUGH_BEYOND
    upper, lower = sparse & (GRID > 0), sparse & (GRID < 0)
    found[upper] = _tail(ordered, ndtr(-GRID[upper]))
    found[lower] = -_tail(-ordered[::-1], ndtr(GRID[lower]))
    quantiles: Floats = found
    return quantiles


def _tail(ordered: Floats, rates: Floats) -> Floats:
    """Quantiles exceeded at `rates`, by a generalised Pareto law with probability-weighted moments (Hosking 1987)."""
    n = len(ordered)
    size = min(max(int(TAIL_SHARE * n), TAIL_AT_LEAST), max(n // 4, 1))
    start = ordered[n - size - 1] if size < n else ordered[0]
    beyond = ordered[n - size :] - start
    first = max(float(beyond.mean()), 1e-9)
    second = float(np.sum(beyond * (np.arange(size, 0, -1) - 0.65)) / size**2)
    shape = float(np.clip(2.0 - first / max(first - 2.0 * second, 1e-9), -0.2, 0.5)) * size / (size + TAIL_AT_LEAST)
    width = first * (1.0 - shape)
    ratio = np.minimum(rates * n / size, 1.0)
    growth = -np.log(ratio) if abs(shape) < 1e-6 else (ratio**-shape - 1.0) / shape  # noqa: PLR2004
    quantiles: Floats = start + width * growth
    return quantiles


def _interpolate(values: Floats, source: Floats, target: Floats) -> Floats:
    """Piecewise linear, both ends carried on with their last slopes."""
    inside = np.interp(values, source, target)
    low = (target[1] - target[0]) / max(source[1] - source[0], 1e-6)
    high = (target[-1] - target[-2]) / max(source[-1] - source[-2], 1e-6)
    below, above = values < source[0], values > source[-1]
    inside = np.where(below, target[0] + low * (values - source[0]), inside)
    result: Floats = np.where(above, target[-1] + high * (values - source[-1]), inside)
    return result
