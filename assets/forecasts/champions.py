"""Champion and challengers: what each forecaster would have said of the last months, and who may serve.

Four forecasters are tried on the same days, each day from what came before it: Prophet's share in the recursion
("prophet"), the recursion alone ("ewma"), the same weekday's newest score ("seasonal_naive"), median and spread of the
last month ("zscore"). Each of them can serve. Choosing by every small difference was tried and brought nothing: a
challenger must win by MARGIN of the pinball loss, and by more than chance would have it.

Belongs here: the back-test and the choice. Does not belong here: registering it (registry), serving (judging.py).
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from assets.forecasts import replay
from assets.forecasts.methods import EWMA, METHODS, PROPHET
from assets.forecasts.panel import Floats, Panel
from assets.forecasts.scale import from_scale
from assets.forecasts.served import serve
from assets.forecasts.serving import Methods, Serving
from assets.forecasts.simple import SIMPLE, WINDOW

TESTED_DAYS = 90
ENOUGH_DAYS = 60  # scored days, of those, for a change of champion
MARGIN = 0.03
# In standard errors: of those who win by the margin alone most win by chance, one template of twenty, and then lose.
SURELY = 3.0
LEVELS = (0.5, 0.97725)  # of the pinball loss: the forecast itself and its upper bound
_TWO_SIGMA = 2.0


@dataclass(frozen=True)
class Backtest:
    """Per template and method of METHODS, NaN where a method said nothing.

    Attributes:
        losses: (n, 4, days) of each day, in score units, the mean over LEVELS.
        coverage: (n, 4) share of days within two standard deviations; nominal 0.9545.
    """

    losses: Floats
    coverage: Floats

    @property
    def days(self) -> Floats:
        """(n, 4) days that were both scored and forecast."""
        days: Floats = (~np.isnan(self.losses)).sum(axis=2).astype(float)
        return days

    @property
    def pinball(self) -> Floats:
        """(n, 4) mean losses."""
        return _mean(self.losses)


def backtest(panel: Panel, days: int = TESTED_DAYS) -> Backtest:
    """Forecast each of the newest `days` from the days before it, by every method.

    Args:
        panel: whose forecasts are tried, and which priors are learnt from.
        days: how many.
    """
    columns = panel.values.shape[1]
    first = max(columns - days, 0)
    block = replay.block_of(panel.first_day + timedelta(days=first))
    fleet = replay.learn(panel, block).fleet
    n = len(panel.subjects)
    said: dict[int, tuple[Floats, Floats]] = {}
    for method in (PROPHET, EWMA):
        replayed = replay.replay(
            panel, block, fleet, first, columns, None, Serving.by(np.full(n, method, dtype=np.int8))
        )
        part = slice(first - replayed.start, None)
        said[method] = replayed.served.means[:, part], replayed.served.sds[:, part]
    for method in SIMPLE:
        served = replayed.served.copy()
        # From so long before the tried days on that its own innovations say which days are far off.
        tried = range(max(first - WINDOW, served.start), columns)
        serve(method, panel, np.arange(n), tried, served)
        silent = served.methods[:, part] != method
        means, sds = np.where(silent, np.nan, served.means[:, part]), np.where(silent, np.nan, served.sds[:, part])
        said[method] = means, sds
    results = [_scored(panel.values[:, first:], *said[method]) for method in range(len(METHODS))]
    losses, coverage = (np.stack(each, axis=1) for each in zip(*results, strict=True))
    return Backtest(losses, coverage)


def champions(tested: Backtest, serving: Methods) -> Methods:
    """(n,) who shall serve: another than who does only where it won by MARGIN over ENOUGH_DAYS, and not by chance."""
    chosen = serving.copy()
    rows = np.arange(len(serving))
    least = np.full(len(serving), np.inf)
    present = tested.losses[rows, serving]
    for challenger in range(len(METHODS)):
        theirs = np.where(np.isnan(present), np.nan, tested.losses[:, challenger])
        gained = present - theirs
        count = (~np.isnan(gained)).sum(axis=1)
        loss, gain = _mean(theirs), _mean(gained)
        chance = np.sqrt(_mean(np.square(gained - gain[:, None])) / np.maximum(count, 1))
        with np.errstate(invalid="ignore"):
            wins = (gain >= MARGIN * (loss + gain)) & (gain > SURELY * chance) & (count >= ENOUGH_DAYS)
            better = wins & (loss < least)
        chosen[better], least[better] = challenger, loss[better]
    return chosen


def _mean(values: Floats) -> Floats:
    """Over the last axis, of those that are known; NaN where none is."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    mean: Floats = np.where(known, values, 0.0).sum(axis=-1) / np.where(count > 0, count, np.nan)
    return mean


def _scored(actual: Floats, means: Floats, sds: Floats) -> tuple[Floats, Floats]:
    losses = np.zeros(actual.shape)
    for level, width in zip(LEVELS, (0.0, _TWO_SIGMA), strict=True):
        miss = actual - from_scale(means + width * sds)
        losses += np.maximum(level * miss, (level - 1.0) * miss) / len(LEVELS)
    low, high = from_scale(means - _TWO_SIGMA * sds), from_scale(means + _TWO_SIGMA * sds)
    inside = (actual >= low) & (actual <= high)
    return losses, _mean(np.where(np.isnan(losses), np.nan, inside))
