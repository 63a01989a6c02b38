"""Ahead of time: the probability that a score crosses a threshold on or before each of the coming days.

The errors of past seven-day forecasts of the whole fleet, each in standard deviations of its template's next day and
each kept as one path, are laid on a template's forecast; the share of paths that have crossed by a day is the answer.
Paths keep how errors of neighbouring days hang together, which marginal bounds would lose.

Belongs here: choosing the paths, the share, and how days that are held back go on. Does not belong here: forecasts
(innovations.py).
"""

import numpy as np
from scipy.special import ndtri

from assets.forecasts.panel import Bools, Floats
from assets.forecasts.scale import TOP

HORIZON = 7
PATHS = 512
# From so many days on, and so many standard errors, a slope is taken to be one.
LINE_DAYS, LINE_ERRORS = 5, 3.0
CHUNK = 512  # templates at a time: 512 x 512 paths x 7 days are 15 MB


def choose(errors: Floats) -> Floats:
    """(PATHS, HORIZON) paths out of (m, HORIZON) errors, evenly over their order; those with gaps are left out.

    Where there are fewer than PATHS, an eighth of so many paths of independent normal errors, growing slowly, are put
    beside them, so that there are some in a fleet without a past.
    """
    whole = errors[~np.isnan(errors).any(axis=1)]
    if len(whole) >= PATHS:
        chosen: Floats = whole[np.linspace(0, len(whole) - 1, PATHS).astype(int)]
        return chosen
    return np.concatenate([whole, _supposed(PATHS // 8)])


def probabilities(means: Floats, sd: Floats, thresholds: Floats, paths: Floats) -> Floats:
    """(n, HORIZON) probability that the score has been above the threshold on or before each day.

    Args:
        means: (n, HORIZON) forecasts.
        sd: (n,) standard deviation of the first day.
        thresholds: (n,) on the scale of the forecasts; NaN where there is none, which gives NaN.
        paths: (m, HORIZON) errors in standard deviations.
    """
    room = (thresholds[:, None] - means) / sd[:, None]
    result = np.empty(room.shape)
    for start in range(0, len(room), CHUNK):
        over = paths[None, :, :] > room[start : start + CHUNK, None, :]
        # Half a path for and half a path against: no number of paths makes a thing certain.
        crossed = np.logical_or.accumulate(over, axis=2).sum(axis=1)
        result[start : start + CHUNK] = (crossed + 0.5) / (len(paths) + 1.0)
    result[np.isnan(thresholds)] = np.nan
    return result


def continued(angles: Floats, chosen: Bools, sd: Floats) -> Floats:
    """(n, HORIZON) what follows if days go on as they were: their mean, or their line where its slope is beyond chance.

    Args:
        angles: (n, D) scores on the scale of the forecasts, up to the day before the first that is ahead.
        chosen: (n, D) the days; at least one of each template.
        sd: (n,) standard deviation of a day.
    """
    number = chosen.sum(axis=1)
    days = np.arange(angles.shape[1])
    middle = (chosen * days).sum(axis=1) / number
    level = np.where(chosen, angles, 0.0).sum(axis=1) / number
    apart = np.where(chosen, days - middle[:, None], 0.0)
    beside = np.where(chosen, angles - level[:, None], 0.0)
    spread = np.maximum(np.square(apart).sum(axis=1), 1.0)
    slope = (apart * beside).sum(axis=1) / spread
    scatter = np.square(beside - slope[:, None] * apart).sum(axis=1) / np.maximum(number - 2, 1)
    error = np.sqrt(np.maximum(scatter, np.square(sd)) / spread)
    slope = np.where((number >= LINE_DAYS) & (np.abs(slope) > LINE_ERRORS * error), slope, 0.0)
    ahead = angles.shape[1] + np.arange(HORIZON) - middle[:, None]
    line: Floats = np.clip(level[:, None] + slope[:, None] * ahead, 0.0, TOP)
    return line


def _supposed(paths: int) -> Floats:
    """Paths of independent normal errors, the same always: a Korobov lattice's points."""
    multipliers = np.array([pow(27, step, paths) for step in range(HORIZON)])
    uniform = ((np.arange(paths)[:, None] * multipliers) % paths + 0.5) / paths
    growth: Floats = np.sqrt(1.0 + 0.1 * np.arange(HORIZON))
    errors: Floats = ndtri(uniform) * growth
    return errors
