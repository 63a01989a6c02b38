"""The two simple forecasters: the same weekday's newest score ("seasonal_naive"), the last month's median ("zscore").

What they say of a day is a function of the template's newest WINDOW days, on the arcsine scale, and of their own
innovations on these. Days far off are left out, so that an incident is not expected to come back a week later;
QUARANTINE of them in a row are a new level, before which nothing counts, as nothing does before a known event. The
spread is that of their errors in the window. Where there are too few days they say nothing, and the recursion serves.

They know nothing of a day's number of evaluations, and learn nothing from other templates: where one of them wins all
the same, it is for a pattern that the others smooth away.

Belongs here: these forecasts. Does not belong here: running them over days (replay.py), calibrating them.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from assets.forecasts.innovations import HOLD, MIN_SD, QUARANTINE
from assets.forecasts.methods import SEASONAL_NAIVE, ZSCORE
from assets.forecasts.panel import Bools, Floats
from assets.forecasts.state import WEEK

WINDOW = 112
MONTH = 30
FEWEST = 10  # errors for a spread, and days for a median
_WEEKS_BACK = 4
SIMPLE: Final = (SEASONAL_NAIVE, ZSCORE)


def expect(
    method: int, values: Floats, innovations: npt.NDArray[np.float32], events: Bools, days: int
) -> tuple[Floats, Floats]:
    """What a simple method says of the days after a window.

    Args:
        method: SEASONAL_NAIVE or ZSCORE.
        values: (n, up to WINDOW) angles of the newest days, NaN where nothing was scored.
        innovations: (n, the same) of these days.
        events: (n, the same) known changes.
        days: how many days ahead, at most a week.

    Returns:
        (days, n) means and (n,) standard deviation of an error; NaN where it says nothing.
    """
    usable = _usable(values, innovations, events)
    if method == SEASONAL_NAIVE:
        expected = _same_weekday(usable, days)
        return expected[:, -days:].T, _spread(usable - expected[:, :-days])
    centre = _median(usable[:, -MONTH:])
    return np.repeat(centre[None], days, axis=0), _spread(usable - centre[:, None])


def _usable(values: Floats, innovations: npt.NDArray[np.float32], events: Bools) -> Floats:
    """The values that count, in C order: how their sums are rounded must not depend on who stands beside them."""
    with np.errstate(invalid="ignore"):
        far_off = np.abs(innovations) > HOLD
    scored = ~np.isnan(innovations)
    number = np.cumsum(scored, axis=1)
    # Of each day, the number of the newest ordinary day: what lies between is a run of days far off.
    ordinary = np.maximum.accumulate(np.where(scored & ~far_off, number, 0), axis=1)
    accepted = far_off & (number - ordinary >= QUARANTINE)
    before_new_level = np.where(accepted, ordinary, -1).max(axis=1, initial=-1)[:, None]
    after_event = np.cumsum(events[:, ::-1], axis=1)[:, ::-1] == events
    counts = after_event & (number > before_new_level) & (~far_off | (ordinary == before_new_level))
    return np.ascontiguousarray(np.where(counts, values, np.nan))


def _same_weekday(usable: Floats, days: int) -> Floats:
    """(n, W + days) the newest score of the weekday before each day of the window and of the `days` after it."""
    n, width = usable.shape
    expected = np.full((n, width + days), np.nan)
    for weeks in range(_WEEKS_BACK, 0, -1):
        lag = weeks * WEEK
        known = usable[:, : max(width + days - lag, 0)]
        part = expected[:, lag : lag + known.shape[1]]
        np.copyto(part, known, where=~np.isnan(known))
    return expected


def _spread(errors: Floats) -> Floats:
    known = ~np.isnan(errors)
    count = known.sum(axis=1)
    square = np.where(known, np.square(errors), 0.0).sum(axis=1)
    spread: Floats = np.sqrt(square / np.maximum(count, 1))
    return np.where(count >= FEWEST, np.maximum(spread, MIN_SD), np.nan)


def _median(values: Floats) -> Floats:
    ordered = np.sort(values, axis=1)  # NaN at the end
    count = (~np.isnan(values)).sum(axis=1)
    rows, middle = np.arange(len(values)), np.maximum(count, 1)
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    median: Floats = (ordered[rows, (middle - 1) // 2] + ordered[rows, middle // 2]) / 2.0
    return np.where(count >= FEWEST, median, np.nan)
