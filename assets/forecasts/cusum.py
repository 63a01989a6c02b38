"""The slow channel: a one-sided cumulative sum of normal scores, which finds shifts and ramps that no single day shows.

S = max(0, S + min(u, CLIP) - DRIFT), an alarm where S > h, and S = 0 after it (Page 1954). The bound h is solved from
the fleet's own past, so that the days it alarms on, and the one-day channel doesn't, are its half of the budget.

Belongs here: the recursion and its bound. Does not belong here: normal scores (calibration.py).
"""

from dataclasses import dataclass

import numpy as np

from assets.forecasts.calibration import BUCKETS, Ints, normal_score_of
from assets.forecasts.panel import Floats

DRIFT = 0.5
# A single day, however wild, is the one-day channel's to report.
CLIP = 3.0
CANDIDATES = np.arange(0.5, 15.01, 0.5)
# Rates a template-day of both channels together: one alarm a week to one in eight years.
RATES = 1.0 / (7.0 * 2.0 ** np.arange(0, 9.01, 0.5))
LEAN_DAYS = 3000.0  # template-days that weigh as much as the law for independent days
SIMULATED = 1000  # templates


@dataclass(frozen=True)
class Bounds:
    """(BUCKETS, len(RATES)) the bound h by the template's age and the budget's rate."""

    table: Floats

    def at(self, rates: Floats, buckets: Ints) -> Floats:
        """(n,) bounds for templates of these budgets (alarms a template-day) and ages."""
        where = np.log(RATES[::-1])
        bounds = np.empty(len(rates))
        for bucket, row in enumerate(self.table):
            chosen = buckets == bucket
            bounds[chosen] = np.interp(np.log(rates[chosen]), where, row[::-1])
        return bounds


def run(scores: Floats, bounds: Floats, start: Floats | None = None) -> Floats:
    """(n,) the statistic after the last of the days.

    Args:
        scores: (n, D) normal scores, NaN where nothing was scored: the statistic then stays.
        bounds: (n, D) the bound on each day.
        start: (n,) the statistic before them; 0 if None.
    """
    statistic = np.zeros(scores.shape[0]) if start is None else start
    for day in range(scores.shape[1]):
        moved = np.maximum(0.0, statistic + np.minimum(scores[:, day], CLIP) - DRIFT)
        moved = np.where(moved > bounds[:, day], 0.0, moved)
        statistic = np.where(np.isnan(scores[:, day]), statistic, moved)
    return statistic


def critical(statistic: Floats, bounds: Floats) -> Floats:
    """(n,) the normal score above which the next day alarms; infinite where no single day can."""
    needed = bounds + DRIFT - statistic
    score: Floats = np.where(needed >= CLIP, np.inf, needed)
    return score


def learn(scores: Floats, buckets: Ints) -> Bounds:
    """Solve the bounds on past normal scores (n, D) of templates in `buckets` (n, D)."""
    alarms, days = _simulate(np.asfortranarray(scores), np.asfortranarray(buckets))
    independent = _independent_rate(CANDIDATES)[:, None] * np.ones(len(RATES))
    everyone = (alarms.sum(axis=0) + LEAN_DAYS * independent) / (days.sum() + LEAN_DAYS)
    table = np.empty((BUCKETS, len(RATES)))
    for bucket in range(BUCKETS):
        rates = (alarms[bucket] + LEAN_DAYS * everyone) / (days[bucket] + LEAN_DAYS)
        for column, rate in enumerate(RATES):
            falling = np.minimum.accumulate(np.log(np.maximum(rates[:, column], 1e-12)))
            table[bucket, column] = np.interp(np.log(rate / 2.0), falling[::-1], CANDIDATES[::-1])
    return Bounds(np.maximum.accumulate(table, axis=1))


def _simulate(scores: Floats, buckets: Ints) -> tuple[Floats, Floats]:
    """Alarms (BUCKETS, CANDIDATES, RATES) on days that the one-day channel leaves, and days (BUCKETS,) looked at."""
    alarms = np.zeros((BUCKETS, len(CANDIDATES), len(RATES) + 1))
    days = np.zeros(BUCKETS)
    statistic = np.zeros((len(CANDIDATES), scores.shape[0]))
    single_day = normal_score_of(RATES / 2.0)
    for day in range(scores.shape[1]):
        score, bucket = scores[:, day], buckets[:, day]
        seen = ~np.isnan(score)
        # Younger than a week nothing is judged, and nothing is learnt.
        step = np.where(seen & (bucket > 0), np.minimum(score, CLIP) - DRIFT, 0.0)
        np.maximum(0.0, statistic + step, out=statistic)
        over = statistic > CANDIDATES[:, None]
        candidate, template = np.nonzero(over)
        statistic[over] = 0.0
        days += np.bincount(bucket[seen], minlength=BUCKETS)
        # At this rate and all rarer ones the one-day channel leaves the day to the slow one.
        first = np.searchsorted(single_day, score[template])
        where = np.ravel_multi_index((bucket[template], candidate, np.minimum(first, len(RATES))), alarms.shape)
        alarms += np.bincount(where, minlength=alarms.size).reshape(alarms.shape)
    return np.cumsum(alarms, axis=2)[:, :, :-1], days


def _independent_rate(bounds: Floats) -> Floats:
    """Alarms a day on independent normal scores (Siegmund 1985, with his correction for the overshoot)."""
    b = 2.0 * DRIFT * (bounds + 1.166)
    rate: Floats = 2.0 * DRIFT**2 / (np.exp(b) - b - 1.0)
    return rate
