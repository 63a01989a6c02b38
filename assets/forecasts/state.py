"""What is remembered of a template from day to day: sums that forget, one column a template.

A level is remembered four times over (yesterday, days, weeks, months); a forecast is the longest memory plus a
regression on the differences between neighbouring ones. Coefficients of 0 make it a mean, of 1 a random walk, between
them an autoregression or an exponentially weighted mean; above 1 it follows a slope. Every sum starts at nought and is
filled up by the fleet's priors, so that one rule serves every age.

Belongs here: the layout of these sums, and reading them. Does not belong here: how a day changes them (innovations.py).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assets.forecasts.panel import Floats
from assets.forecasts.scale import HALF_COUNTS

# Weight that a day keeps on the next: only yesterday; three days; ten days; a hundred days.
KEPT = np.array([0.02, 0.65, 0.9, 0.99])
MEMORIES = len(KEPT)
FEATURES = MEMORIES - 1
PAIRS = [(i, j) for i in range(FEATURES) for j in range(i, FEATURES)]
WEEK = 7
# Geary's ratio at which a template's tails count as heavier, and where and with what weight it starts.
SHAPE_LIMITS = (0.785, 0.755)
SHAPE_START, SHAPE_DAYS = 0.78, 20.0
TAIL_CLASSES = len(SHAPE_LIMITS) + 1

Tails = npt.NDArray[np.int8]

_LAYOUT = {
    "age": 1,
    "held": 1,
    "held_sum": 1,
    "held_moment": 1,
    "log_count": 1,
    "anchor": 1,
    "anchor_variance": 1,
    "sums": MEMORIES,
    "weights": MEMORIES,
    "weekday_sum": WEEK,
    "weekday_weight": WEEK,
    "weekday_share": 1,
    "week": WEEK,
    "week_weight": WEEK,
    "noise_sum": len(HALF_COUNTS),
    "noise_log": len(HALF_COUNTS),
    "noise_weight": 1,
    "within": len(HALF_COUNTS),
    "size_sum": 1,
    "square_sum": 1,
    "shape_weight": 1,
    "information": len(PAIRS),
    "cross": FEATURES,
    "regression_days": 1,
    "beta": FEATURES,
}
SIZE = sum(_LAYOUT.values())


@dataclass(frozen=True)
class State:
    """Views into one table (SIZE, n); changing them in place changes it.

    Attributes:
        age: (n,) scored days.
        held: (n,) scored days in a row that were held back.
        held_sum, held_moment: (n,) of their deseasoned angles, and of these times their number in the row, from 1.
        log_count: (n,) running mean of log(evaluations).
        anchor, anchor_variance: (n,) the level supposed before the first day, or before the newest event.
        sums, weights: (MEMORIES, n) of the deseasoned angles.
        weekday_sum, weekday_weight: (7, n) of what each weekday brought beyond the mean of the week around it.
        weekday_share: (n,) variance supposed of weekdays' effects in units of the noise, renewed weekly.
        week, week_weight: (7, n) the newest angle of each weekday, its forecast where there is none, and its weight.
        noise_sum, noise_log: (K, n) squared errors, and logs of their factors, by each law of scale.HALF_COUNTS.
        noise_weight: (n,) their days.
        within: (K, n) probability of each of these laws.
        size_sum, square_sum, shape_weight: (n,) of innovations: how heavy their tails are.
        information, cross: normal equations of the regression, in units of the noise.
        regression_days: (n,) their days.
        beta: (FEATURES, n) coefficients, renewed weekly.
    """

    table: Floats
    age: Floats
    held: Floats
    held_sum: Floats
    held_moment: Floats
    log_count: Floats
    anchor: Floats
    anchor_variance: Floats
    sums: Floats
    weights: Floats
    weekday_sum: Floats
    weekday_weight: Floats
    weekday_share: Floats
    week: Floats
    week_weight: Floats
    noise_sum: Floats
    noise_log: Floats
    noise_weight: Floats
    within: Floats
    size_sum: Floats
    square_sum: Floats
    shape_weight: Floats
    information: Floats
    cross: Floats
    regression_days: Floats
    beta: Floats

    @classmethod
    def of(cls, table: Floats) -> "State":
        """Name the parts of a table."""
        ends = np.cumsum(list(_LAYOUT.values()))
        blocks = np.split(table, ends[:-1])
        named = {
            name: block[0] if rows == 1 else block for (name, rows), block in zip(_LAYOUT.items(), blocks, strict=True)
        }
        return cls(table=table, **named)

    @property
    def typical_count(self) -> Floats:
        """(n,) the number of evaluations that a day of the template has."""
        count: Floats = np.exp(self.log_count)
        return count

    def tails(self) -> Tails:
        """(n,) the class of a template's tails, 0 (normal) to TAIL_CLASSES - 1 (heavy), by Geary's ratio.

        Mean size over root mean square: 0.80 for normal innovations, less for heavy tails.
        """
        days = self.shape_weight + SHAPE_DAYS
        size = (self.size_sum + SHAPE_DAYS * SHAPE_START) / days
        ratio = size / np.sqrt((self.square_sum + SHAPE_DAYS) / days)
        heavier: Tails = np.searchsorted(-np.array(SHAPE_LIMITS), -ratio).astype(np.int8)
        return heavier

    def levels(self) -> Floats:
        """(n,) the longest memory, without the fleet's help where there is one."""
        seen = self.weights[-1] > 0
        level: Floats = np.where(seen, self.sums[-1] / np.where(seen, self.weights[-1], 1.0), self.anchor)
        return level
