"""The slow channel: a one-sided cumulative sum of normal scores, which finds shifts and ramps that no single day shows.

S = max(0, S + min(u, CLIP) - DRIFT), an alarm where S > h (Page 1954). After an alarm, of this channel or the one-day
channel, S = -REST, from where it rises to 0 within REST_DAYS by itself: what has been reported is not gathered again,
so that one excursion doesn't use up the budget of several. The bound h is solved from the fleet's own past, so that the
days it alarms on, and the one-day channel doesn't, are its half of the budget.

Belongs here: the recursion and its bound. Does not belong here: normal scores (calibration.py).
"""

from dataclasses import dataclass

import numpy as np

from assets.forecasts.calibration import BUCKETS, Ints, normal_score_of
from assets.forecasts.panel import Floats

DRIFT = 0.5
# A single day, however wild, is the one-day channel's to report.
CLIP = 3.0
REST, REST_DAYS = 1.0, 3.0
# Rates a template-day of both channels together: one alarm a week to one in eight years.
RATES = 1.0 / (7.0 * 2.0 ** np.arange(10.0))
# Bounds that are tried for a rate, beside that for independent days.
AROUND = np.array([-1.5, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0])
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


def run(scores: Floats, bounds: Floats, single_day: Floats, start: Floats | None = None) -> Floats:
    """(n,) the statistic after the last of the days.

    Args:
        scores: (n, D) normal scores, NaN where nothing was scored: the statistic then stays.
        bounds: (n, D) the bound on each day.
        single_day: (n,) the normal score above which the one-day channel alarms.
        start: (n,) the statistic before them; 0 if None.
    """
    statistic = np.zeros(scores.shape[0]) if start is None else start
    for day in range(scores.shape[1]):
        moved = _moved(statistic, scores[:, day])
        moved = np.where((moved > bounds[:, day]) | (scores[:, day] > single_day), -REST, moved)
        statistic = np.where(np.isnan(scores[:, day]), statistic, moved)
    return statistic


def _moved(statistic: Floats, score: Floats) -> Floats:
    floor = np.minimum(statistic + REST / REST_DAYS, 0.0)
    moved: Floats = np.maximum(statistic + (np.minimum(score, CLIP) - DRIFT), floor)
    return moved


def critical(statistic: Floats, bounds: Floats) -> Floats:
    """(n,) the normal score above which the next day alarms; infinite where no single day can."""
    needed = bounds + DRIFT - statistic
    score: Floats = np.where(needed >= CLIP, np.inf, needed)
    return score


def learn(scores: Floats, buckets: Ints) -> Bounds:
    """Solve the bounds on past normal scores (n, D) of templates in `buckets` (n, D)."""
    independent = _independent_bounds()
    tried = independent[:, None] + AROUND
    alarms, days = _simulate(np.asfortranarray(scores), np.asfortranarray(buckets), tried)
    prior = _independent_rate(tried)
    everyone = (alarms.sum(axis=0) + LEAN_DAYS * prior) / (days.sum() + LEAN_DAYS)
    table = np.empty((BUCKETS, len(RATES)))
    for bucket in range(BUCKETS):
        rates = (alarms[bucket] + LEAN_DAYS * everyone) / (days[bucket] + LEAN_DAYS)
        for row, rate in enumerate(RATES):
            falling = np.minimum.accumulate(np.log(np.maximum(rates[row], 1e-12)))
            table[bucket, row] = np.interp(np.log(rate / 2.0), falling[::-1], tried[row, ::-1])
    return Bounds(np.maximum.accumulate(table, axis=1))


def _simulate(scores: Floats, buckets: Ints, tried: Floats) -> tuple[Floats, Floats]:
    """Alarms (BUCKETS, *tried.shape) on days that the one-day channel leaves, and days (BUCKETS,) looked at."""
    bounds = tried.reshape(-1, 1)
    single_day = np.repeat(normal_score_of(RATES / 2.0), tried.shape[1])[:, None]
    alarms = np.zeros((BUCKETS, bounds.size))
    days = np.zeros(BUCKETS)
    statistic = np.zeros((bounds.size, scores.shape[0]))
    for day in range(scores.shape[1]):
        # Younger than a week nothing is judged, and nothing is learnt.
        seen = np.flatnonzero(~np.isnan(scores[:, day]) & (buckets[:, day] > 0))
        score, bucket = scores[seen, day], buckets[seen, day]
        moved = _moved(statistic[:, seen], score)
        single = score > single_day
        over = moved > bounds
        moved[over | single] = -REST
        statistic[:, seen] = moved
        days += np.bincount(bucket, minlength=BUCKETS)
        bound, template = np.nonzero(over & ~single)
        where = np.ravel_multi_index((bucket[template], bound), alarms.shape)
        alarms += np.bincount(where, minlength=alarms.size).reshape(alarms.shape)
    return alarms.reshape(BUCKETS, *tried.shape), days


def _independent_bounds() -> Floats:
    """(len(RATES),) bounds at which independent days would alarm at half of each rate."""
    bounds = np.arange(0.5, 15.01, 0.1)
    found: Floats = np.interp(-np.log(RATES / 2.0), -np.log(_independent_rate(bounds)), bounds)
    return found


def _independent_rate(bounds: Floats) -> Floats:
    """Alarms a day on independent normal scores (Siegmund 1985, with his correction for the overshoot)."""
    b = 2.0 * DRIFT * (bounds + 1.166)
    rate: Floats = 2.0 * DRIFT**2 / (np.exp(b) - b - 1.0)
    return rate
