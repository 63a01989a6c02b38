"""The judgement: what is expected of each template's days, and which days broke it.

    is_anomaly <=> actual > upper, always.

Two channels share a template's budget of false alarms by halves: a day's own p-value, and a cumulative sum that
gathers small evidence over days. Given the past both rise with the day's value, so both are one bound: `upper` is the
lower of the two values at which they alarm, and tightens while evidence of a slow change gathers.

A verdict on a day is a function of the template's own days up to it and of the day's calibration, which is learnt from
the whole fleet's days before it. Neither the order of templates, nor what else is judged in the same call, nor memory
changes a bit of it.

Belongs here: putting the parts together. Does not belong here: any of the parts, storage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby

import numpy as np

from assets.forecasts import calibration as calibrations
from assets.forecasts import cusum, replay
from assets.forecasts.calibration import Quantiles, buckets_of, normal_score_of, p_values
from assets.forecasts.crossing import HORIZON, continued, probabilities
from assets.forecasts.fleet import Fleet
from assets.forecasts.innovations import HOLD
from assets.forecasts.methods import EWMA
from assets.forecasts.panel import Bools, Floats, Panel
from assets.forecasts.replay import CALIBRATED_ON, RECALLED, Lessons, Memory, Replay
from assets.forecasts.scale import from_scale, to_scale
from assets.forecasts.serving import Methods, Serving
from assets.forecasts.simple import SIMPLE

JUDGED_DAYS = RECALLED
MIN_DAYS = 7  # scored days before a template's first verdict: one of each weekday
DEFAULT_WEEKS = 26.0
# Days of history from which on a calibration, which costs as much as all else of a day, is learnt on Mondays alone: by
# then another day changes next to nothing.
CALIBRATED_WEEKLY_FROM = 28
SLOW_DAYS = 90  # what the slow channel looks back; its evidence is usually a week old
# Half a point of drift: a constant history must not alarm on rounding.
MIN_HALF_WIDTH = 0.005


@dataclass(frozen=True)
class Calibration:
    """All that a day's verdicts take from the fleet; stored by measure and day, and never changed.

    Attributes:
        fleet: priors of templates, the same for a whole block of days (replay.py).
        paths: (m, HORIZON) errors of past seven-day forecasts, likewise.
        quantiles: of past innovations.
        bounds: of the slow channel.
    """

    fleet: Fleet
    paths: Floats
    quantiles: Quantiles
    bounds: cusum.Bounds


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on J judged days and forecasts of the HORIZON days from today on, for n templates.

    Bounds are in score units, lower <= yhat <= upper, all within [0, 1]. NaN stands where nothing is said: before a
    template has MIN_DAYS scored days, and on days not asked for.

    Attributes:
        days: the J judged dates, ascending.
        yhat, lower, upper: (n, J).
        p_value: (n, J) one-sided, of the day alone; NaN where nothing was scored.
        is_anomaly: (n, J) actual > upper.
        method: (n, J) index into METHODS of the forecaster that served.
        innovations: (n, J) standardised out-of-sample errors.
        slow: (n, J) the slow channel's statistic before each day.
        down_weighted: (n, J) days that were held back from the next forecasts.
        ahead_yhat, ahead_lower, ahead_upper, p_crossing: (n, HORIZON); p_crossing NaN without a threshold.
        ahead_method: (n,).
        memory: what the next night needs.
        calibrations: by day, those used, today's included: tomorrow judges today by it.
    """

    days: tuple[date, ...]
    yhat: Floats
    lower: Floats
    upper: Floats
    p_value: Floats
    is_anomaly: Bools
    method: Methods
    innovations: Floats
    slow: Floats
    down_weighted: Bools
    ahead_yhat: Floats
    ahead_lower: Floats
    ahead_upper: Floats
    ahead_method: Methods
    p_crossing: Floats
    memory: Memory
    calibrations: Mapping[date, Calibration]


def judge(
    panel: Panel,
    memory: Memory | None = None,
    budget: Floats | float = DEFAULT_WEEKS,
    thresholds: Floats | float = np.nan,
    judged: Bools | int = JUDGED_DAYS,
    calibration: Mapping[date, Calibration] | None = None,
    serving: Serving | None = None,
    lessons: Mapping[int, Lessons] | None = None,
) -> Verdicts:
    """Judge days of a panel and forecast the coming ones.

    Args:
        panel: the fleet's histories; the last column is yesterday's.
        memory: what an earlier call returned, its rows in the panel's order; rows of templates whose history changed
            must have `days` 0.
        budget: weeks in which a template may raise one false alarm; one for all, or (n,).
        thresholds: score above which a template has crossed; one for all, or (n,), NaN for none.
        judged: how many of the newest days, or (n, T) which days.
        calibration: by day, what earlier calls returned; other days' are learnt.
        serving: who is to serve; Prophet's method unless told. Memory of a template of which that changed must have
            `days` 0.
        lessons: by block, what `replay.learn` taught of it, if that is known; a calibration of the block goes before.
    """
    n, columns = panel.values.shape
    serving = serving or Serving.prophet(n)
    wanted, days = _wanted(judged, n, columns)
    known = dict(calibration or {})
    rates = np.broadcast_to(1.0 / (7.0 * np.asarray(budget, dtype=float)), (n,))
    levels = np.broadcast_to(np.asarray(thresholds, dtype=float), (n,))
    verdicts = _empty(days, n)
    used: dict[date, Calibration] = {}
    taught: dict[int, Calibration] = {}
    for block, chosen in groupby([*days, columns], key=lambda column: replay.block_of(_date(panel, column))):
        group = list(chosen)
        learnt = lessons_of(block, known, lessons or {}) or replay.learn(panel, block)
        replayed = replay.replay(panel, block, learnt.fleet, group[0], min(group[-1] + 1, columns), memory, serving)
        for column in group:
            day = _date(panel, column)
            if day not in known:
                at = _taught_at(panel, replayed, column)
                calibrated = known.get(_date(panel, at)) or taught.get(at)
                known[day] = taught[at] = calibrated or _calibrate(panel, replayed, learnt, at)
            used[day] = known[day]
            if column < columns:
                _judge_day(verdicts, int(np.searchsorted(days, column)), panel, replayed, used[day], rates, column)
    for name in ("yhat", "lower", "upper", "p_value", "innovations", "slow"):
        verdicts[name][~wanted[:, days]] = np.nan
    verdicts["is_anomaly"] &= wanted[:, days]
    return Verdicts(
        days=tuple(_date(panel, column) for column in days),
        **verdicts,
        **_ahead(panel, replayed, used[_date(panel, columns)], rates, levels, serving),
        memory=replay.remember(panel, block, replayed),
        calibrations=used,
    )


def lessons_of(block: int, calibration: Mapping[date, Calibration], lessons: Mapping[int, Lessons]) -> Lessons | None:
    """What is known of a block's lessons: those that any of its days was judged by, since memory was made by them."""
    days = [day for day in calibration if replay.block_of(day) == block]
    if not days:
        return lessons.get(block)
    first = calibration[min(days)]
    return Lessons(first.fleet, first.paths)


def _wanted(judged: Bools | int, n: int, columns: int) -> tuple[Bools, list[int]]:
    """(n, T) cells asked for, and the columns that hold them."""
    if not isinstance(judged, int):
        return judged, [int(column) for column in np.flatnonzero(judged.any(axis=0))]
    days = list(range(max(columns - judged, 0), columns))
    wanted = np.zeros((n, columns), dtype=bool)
    wanted[:, days] = True
    return wanted, days


def _date(panel: Panel, column: int) -> date:
    return panel.first_day + timedelta(days=column)


def _empty(days: list[int], n: int) -> dict[str, np.ndarray]:
    shape = (n, len(days))
    names = ("yhat", "lower", "upper", "p_value", "innovations", "slow")
    return {name: np.full(shape, np.nan) for name in names} | {
        "is_anomaly": np.zeros(shape, dtype=bool),
        "down_weighted": np.zeros(shape, dtype=bool),
        "method": np.full(shape, EWMA, dtype=np.int8),
    }


def _taught_at(panel: Panel, replayed: Replay, column: int) -> int:
    """The column on which a day's calibration is learnt: its Monday's, while the fleet is young its own."""
    monday = column - _date(panel, column).weekday()
    return monday if monday - replayed.start >= CALIBRATED_WEEKLY_FROM else column


def _calibrate(panel: Panel, replayed: Replay, lessons: Lessons, column: int) -> Calibration:
    end = column - replayed.start
    start = max(end - CALIBRATED_ON, 0)
    past = calibrations.without_incidents(replayed.innovations[:, start:end].astype(float))
    buckets = buckets_of(replayed.settled[:, start:end], replayed.tails[:, start:end])
    quantiles = calibrations.learn(past, buckets)
    rows = replay.sample(panel, cusum.SIMULATED)
    scores = quantiles.normal_scores(past[rows], buckets[rows])
    return Calibration(lessons.fleet, lessons.paths, quantiles, cusum.learn(scores, buckets[rows]))


def _judge_day(
    verdicts: dict[str, np.ndarray],
    place: int,
    panel: Panel,
    replayed: Replay,
    calibration: Calibration,
    rates: Floats,
    column: int,
) -> None:
    at = column - replayed.start
    mean, sd = replayed.served.means[:, at], replayed.served.sds[:, at]
    age = replayed.ages[:, at]
    silent = age < MIN_DAYS
    buckets = buckets_of(replayed.settled[:, at], replayed.tails[:, at])
    upper_score, slow = _upper_score(replayed, calibration, rates, buckets, at)
    yhat, lower, upper = _bounds(mean, sd, upper_score, calibration.quantiles, buckets, rates)
    verdicts["method"][:, place] = replayed.served.methods[:, at]
    z = replayed.innovations[:, at].astype(float)
    actual = panel.values[:, column]
    with np.errstate(invalid="ignore"):
        verdicts["is_anomaly"][:, place] = ~silent & (actual > upper)
        verdicts["down_weighted"][:, place] = np.abs(z) > HOLD
    p = p_values(calibration.quantiles.normal_scores(z, buckets))
    found = {"yhat": yhat, "lower": lower, "upper": upper, "p_value": p, "slow": slow, "innovations": z}
    for name, values in found.items():
        verdicts[name][:, place] = np.where(silent, np.nan, values)


def _upper_score(
    replayed: Replay, calibration: Calibration, rates: Floats, buckets: calibrations.Ints, at: int
) -> tuple[Floats, Floats]:
    """(n,) the normal score above which the day alarms by either channel, and the slow one's statistic before it."""
    start = max(at - SLOW_DAYS, 0)
    past = buckets_of(replayed.settled[:, start:at], replayed.tails[:, start:at])
    scores = calibration.quantiles.normal_scores(replayed.innovations[:, start:at].astype(float), past)
    scores[past == 0] = np.nan
    bounds = np.empty(scores.shape)
    for day in range(scores.shape[1]):
        bounds[:, day] = calibration.bounds.at(rates, past[:, day])
    single_day = normal_score_of(rates / 2.0)
    statistic = cusum.run(scores, bounds, single_day)
    slow_score = cusum.critical(statistic, calibration.bounds.at(rates, buckets))
    return np.minimum(single_day, slow_score), statistic


def _bounds(
    mean: Floats, sd: Floats, upper_score: Floats, quantiles: Quantiles, buckets: calibrations.Ints, rates: Floats
) -> tuple[Floats, Floats, Floats]:
    upper = from_scale(mean + sd * quantiles.innovations(upper_score, buckets))
    lower = from_scale(mean + sd * quantiles.innovations(-normal_score_of(rates / 2.0), buckets))
    yhat = from_scale(mean)
    return yhat, *_floored(yhat, lower, upper)


def _floored(yhat: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    low = np.clip(np.minimum(lower, yhat - MIN_HALF_WIDTH), 0.0, 1.0)
    high = np.clip(np.maximum(upper, yhat + MIN_HALF_WIDTH), 0.0, 1.0)
    return low, high


def _crossing(panel: Panel, held: Floats, means: Floats, sd: Floats, thresholds: Floats, paths: Floats) -> Floats:
    """(n, HORIZON) probabilities of a crossing; of templates whose newest days are held back, of both levels.

    A forecast holds to the old level as long as days far off may be an incident. That they last, having lasted k days,
    is as likely as k / (k + 1): Laplace's rule of succession, with the day on which they began as the one failure.
    Days that clearly climb, or fall, go on to: their mean would lag behind by half of them.
    """
    crossing = probabilities(means, sd, thresholds, paths)
    rows = np.flatnonzero(held > 0)
    if len(rows):
        run = held[rows]
        angles = to_scale(panel.values[rows])
        scored = ~np.isnan(angles)
        newest = scored & (np.cumsum(scored[:, ::-1], axis=1)[:, ::-1] <= run[:, None])
        lasting = probabilities(continued(angles, newest, sd[rows]), sd[rows], thresholds[rows], paths)
        stays = (run / (run + 1.0))[:, None]
        crossing[rows] += stays * (lasting - crossing[rows])
    return crossing


def _ahead(
    panel: Panel,
    replayed: Replay,
    calibration: Calibration,
    rates: Floats,
    thresholds: Floats,
    serving: Serving,
) -> dict[str, np.ndarray]:
    n, state = len(panel.subjects), replayed.state
    means, sd, growth, methods = replay.ahead(panel, replayed, calibration.fleet, serving)
    buckets = buckets_of(replay.settled_now(panel, replayed), state.tails())
    score, _ = _upper_score(replayed, calibration, rates, buckets, replayed.innovations.shape[1])
    yhat, lower, upper = (np.empty((n, HORIZON)) for _ in range(3))
    beyond = normal_score_of(rates / 2.0)
    for step in range(HORIZON):
        day_score = score if step == 0 else beyond
        yhat[:, step], lower[:, step], upper[:, step] = _bounds(
            means[step], sd * growth[step], day_score, calibration.quantiles, buckets, rates
        )
    angles = to_scale(thresholds)
    crossing = _crossing(panel, state.held, means.T, sd, angles, calibration.paths)
    if (is_simple := np.isin(methods, SIMPLE)).any():
        scatter = np.std(np.sort(calibration.paths, axis=0), axis=0)
        growths = np.maximum(scatter / max(float(scatter[0]), 1e-9), 1.0)
        part = means.T[is_simple], sd[is_simple], angles[is_simple]
        crossing[is_simple] = _crossing(panel.of(is_simple), state.held[is_simple], *part, calibration.paths / growths)
    silent = state.age < MIN_DAYS
    for values in (yhat, lower, upper, crossing):
        values[silent] = np.nan
    return {
        "ahead_yhat": yhat,
        "ahead_lower": lower,
        "ahead_upper": upper,
        "ahead_method": methods,
        "p_crossing": crossing,
    }
