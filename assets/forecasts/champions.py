"""Champion and challengers: what each forecaster would have said of the last months, and who may serve.

Four forecasters are tried on the same days, each day from what came before it: Prophet's share in the recursion
("prophet"), the recursion alone ("ewma"), the day a week ago ("seasonal_naive"), median and spread of the last month
("zscore"). The first two can serve; the last two are yardsticks: where one of them wins, a template's own pattern is
of no use to forecast it. Choosing by every small difference was tried and brought nothing: a challenger must win by
MARGIN of the pinball loss.

Belongs here: the back-test and the choice. Does not belong here: registering it (registry), serving (judging.py).
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from assets.forecasts import replay
from assets.forecasts.judging import METHODS
from assets.forecasts.panel import Bools, Floats, Panel
from assets.forecasts.scale import from_scale, to_scale

TESTED_DAYS = 90
ENOUGH_DAYS = 60  # scored days, of those, for a change of champion
MARGIN = 0.03
LEVELS = (0.5, 0.97725)  # of the pinball loss: the forecast itself and its upper bound
SERVABLE: Final = (METHODS.index("prophet"), METHODS.index("ewma"))
_TWO_SIGMA = 2.0
_MONTH, _EIGHT_WEEKS, _WEEK = 30, 56, 7
_FEWEST = 7
_MAD = 1.4826  # of a normal law's standard deviation


@dataclass(frozen=True)
class Backtest:
    """Per template and method of METHODS, (n, 4) each, NaN where a method said nothing.

    Attributes:
        pinball: mean loss in score units, over LEVELS.
        coverage: share of days within two standard deviations; nominal 0.9545.
        days: days that were both scored and forecast.
    """

    pinball: Floats
    coverage: Floats
    days: Floats


def backtest(panel: Panel, days: int = TESTED_DAYS, rows: Bools | None = None) -> Backtest:
    """Forecast each of the newest `days` from the days before it, by every method.

    Args:
        panel: the fleet, which priors are learnt from.
        days: how many.
        rows: (n) whose forecasts are tried; all, unless told.
    """
    columns = panel.values.shape[1]
    first = max(columns - days, 0)
    block = replay.block_of(panel.first_day + timedelta(days=first))
    fleet = replay.learn(panel, block).fleet
    panel = panel if rows is None else panel.of(rows)
    actual = to_scale(panel.values)
    n = len(panel.subjects)
    said = {}
    for name, shut_out in (("prophet", np.zeros(n, dtype=bool)), ("ewma", np.ones(n, dtype=bool))):
        replayed = replay.replay(panel, block, fleet, first, columns, None, shut_out)
        said[name] = replayed.means[:, first - replayed.start :], replayed.sds[:, first - replayed.start :]
    said["seasonal_naive"] = _seasonal_naive(actual, first)
    said["zscore"] = _zscore(actual, first)
    results = [_scored(panel.values[:, first:], *said[name]) for name in METHODS]
    pinball, coverage, count = (np.stack(each, axis=1) for each in zip(*results, strict=True))
    return Backtest(pinball, coverage, count)


def champions(tested: Backtest, serving: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """(n,) who shall serve: another than who does only where it won by MARGIN over ENOUGH_DAYS."""
    chosen = serving.copy()
    rows = np.arange(len(serving))
    for challenger in SERVABLE:
        with np.errstate(invalid="ignore"):
            wins = tested.pinball[:, challenger] <= (1.0 - MARGIN) * tested.pinball[rows, serving]
            better = tested.pinball[:, challenger] < tested.pinball[rows, chosen]
        chosen[wins & better & (tested.days[:, challenger] >= ENOUGH_DAYS)] = challenger
    return chosen


def _seasonal_naive(actual: Floats, first: int) -> tuple[Floats, Floats]:
    weeks_ago = [np.pad(actual, ((0, 0), (lag, 0)), constant_values=np.nan)[:, : actual.shape[1]] for lag in (7, 14)]
    expected = np.where(np.isnan(weeks_ago[0]), weeks_ago[1], weeks_ago[0])
    sd = [_spread((actual - expected)[:, max(day - _EIGHT_WEEKS, 0) : day]) for day in range(first, actual.shape[1])]
    return expected[:, first:], _columns(sd, actual)


def _spread(errors: Floats) -> Floats:
    known = ~np.isnan(errors)
    count = known.sum(axis=1)
    square = np.where(known, np.square(errors), 0.0).sum(axis=1)
    spread: Floats = np.where(count >= _FEWEST, np.sqrt(square / np.maximum(count, 1)), np.nan)
    return spread


def _zscore(actual: Floats, first: int) -> tuple[Floats, Floats]:
    centres, spreads = [], []
    for day in range(first, actual.shape[1]):
        window = actual[:, max(day - _MONTH, 0) : day]
        enough = (~np.isnan(window)).sum(axis=1) >= _FEWEST
        centre, spread = np.full((2, len(actual)), np.nan)
        centre[enough] = np.nanmedian(window[enough], axis=1)
        spread[enough] = _MAD * np.nanmedian(np.abs(window[enough] - centre[enough, None]), axis=1)
        centres.append(centre)
        spreads.append(spread)
    return _columns(centres, actual), _columns(spreads, actual)


def _columns(days: list[Floats], like: Floats) -> Floats:
    return np.stack(days, axis=1) if days else np.empty((len(like), 0))


def _scored(actual: Floats, means: Floats, sds: Floats) -> tuple[Floats, Floats, Floats]:
    known = ~np.isnan(actual) & ~np.isnan(means) & ~np.isnan(sds)
    losses = np.zeros(actual.shape)
    for level, width in zip(LEVELS, (0.0, _TWO_SIGMA), strict=True):
        miss = actual - from_scale(means + width * sds)
        losses += np.maximum(level * miss, (level - 1.0) * miss) / len(LEVELS)
    low, high = from_scale(means - _TWO_SIGMA * sds), from_scale(means + _TWO_SIGMA * sds)
    count = known.sum(axis=1).astype(float)
    of = np.where(count > 0, count, np.nan)
    inside = known & (actual >= low) & (actual <= high)
    return np.where(known, losses, 0.0).sum(axis=1) / of, inside.sum(axis=1) / of, count
