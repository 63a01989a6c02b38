"""Prophet's part in a forecast: its fit of each week's Monday, with what its newest errors say put right.

Real scores hang together from day to day, which Prophet's noise does not: its forecast is moved by a regression on its
own newest errors, the same that the recursion makes on its memories (state.py), and averaged with the recursion's. A
fit sees only what came before its Monday, without the days that were far off. A known event is a step of its own in the
fit, so that weekdays, seasons and trend are learnt from the days before it too; errors count from the newest event on.

Belongs here: fitting, the errors, their correction. Does not belong here: Prophet itself (prophet_map.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from assets.forecasts import prophet_map, versions
from assets.forecasts.panel import Bools, Floats
from assets.forecasts.state import FEATURES, KEPT, WEEK
from assets.forecasts.versions import Versions

# Prophet's share of a forecast, reached gradually: at RAMP_DAYS of history it has half of it. On half a year and less
# its turning points cost more than its trend brings.
SHARE, RAMP_DAYS = 0.5, 180.0
LEAST_DAYS = 21  # scored days for a fit: three of each weekday
STEPS = 3  # newest known events that have a step; of the days before an older one nothing is used
STEP_DAYS = 7  # scored days after the newest, to see how high its step is
HORIZON_DAYS = 2 * WEEK
ERROR_DAYS = 60
# A day so far off, in standard deviations, is left out; of the newest ERROR_DAYS more than MOST_LEFT_OUT such days are
# a new level, of which Prophet knows nothing.
FAR_OFF = 3.0
MOST_LEFT_OUT = 10
LOOKED_AT = 180  # days in which far-off ones are looked for
NEIGHBOUR = 0.1
WIDTH = HORIZON_DAYS + 1 + 2 * FEATURES  # numbers a template


@dataclass
class Structure:
    """Prophet's forecasts of a week and the next one, and its errors so far.

    Attributes:
        expected: (HORIZON_DAYS, n) on the arcsine scale, NaN where there is no fit.
        share: (n,) of the forecast.
        fits: (n,) of the versions that it was made by; the recursion's numbers are put in when they are renewed.
        sums, weights: (FEATURES, n) of its newest errors, forgetting as the state's shorter memories do.
    """

    expected: Floats
    share: Floats
    fits: Versions
    sums: Floats
    weights: Floats

    @property
    def table(self) -> Floats:
        """(n, WIDTH) all of it but the fits, a row a template."""
        return np.ascontiguousarray(np.vstack([self.expected, self.share, self.sums, self.weights]).T)

    @classmethod
    def of(cls, table: Floats, fits: Versions) -> "Structure":
        """What `table` gave, and fits."""
        expected, share, sums, weights = np.split(np.ascontiguousarray(table.T), np.cumsum([HORIZON_DAYS, 1, FEATURES]))
        return cls(expected, share[0], fits, sums, weights)

    def blend(self, day: int, own: Floats, beta: Floats) -> Floats:
        """(n,) average of the recursion's forecast of a day of the two weeks with Prophet's."""
        return _blend(own, self.expected[day], self.share, self._correction(self.sums, self.weights, beta))

    def learn(self, day: int, values: Floats, far_off: Bools) -> None:
        """Let a day's error in."""
        error = values - self.expected[day]
        known = ~np.isnan(error) & ~far_off
        kept = KEPT[:FEATURES, None]
        self.sums = self.sums * kept + np.where(known, error, 0.0)
        self.weights = self.weights * kept + known

    def ahead(self, day: int, own: Floats, beta: Floats) -> Floats:
        """(days, n) averages with the recursion's forecasts `own` of days from `day` on."""
        sums, weights = self.sums, self.weights
        blended = np.empty(own.shape)
        for step, forecast in enumerate(own):
            correction = self._correction(sums, weights, beta)
            blended[step] = _blend(forecast, self.expected[day + step], self.share, correction)
            sums, weights = sums * KEPT[:FEATURES, None] + correction, weights * KEPT[:FEATURES, None] + 1.0
        return blended

    def forget(self, which: Bools) -> None:
        """Leave templates to the recursion, at a known event."""
        self.expected[:, which] = np.nan

    @staticmethod
    def _correction(sums: Floats, weights: Floats, beta: Floats) -> Floats:
        longer = np.zeros(sums.shape[1])
        correction = np.zeros(sums.shape[1])
        for row in range(FEATURES - 1, -1, -1):
            memory = (sums[row] + NEIGHBOUR * longer) / (weights[row] + NEIGHBOUR)
            correction = correction + beta[row] * (memory - longer)
            longer = memory
        return correction


def fit(
    values: Floats, innovations: npt.NDArray[np.float32], events: Bools, first_day: date, pinned: Versions
) -> Structure:
    """Fit Prophet to histories that end the day before a Monday.

    Args:
        values: (n, T) angles, NaN where nothing was scored.
        innovations: (n, T) of the same days.
        events: (n, T) known changes.
        first_day: the date of the first column.
        pinned: (n,) fits that serve instead, where there are any; of a new level they know as little as others.
    """
    n, days = values.shape
    far_off = np.zeros(values.shape, dtype=bool)
    far_off[:, -LOOKED_AT:] = np.abs(innovations[:, -LOOKED_AT:]) > FAR_OFF
    # So many events came after each day.
    after: npt.NDArray[np.int64] = np.cumsum(events[:, ::-1], axis=1)[:, ::-1] - events
    history = np.where((after <= STEPS) & ~far_off, values, np.nan)
    since_event = np.where(after == 0, history, np.nan)
    scored, scored_since = (~np.isnan(history)).sum(axis=1), (~np.isnan(since_event)).sum(axis=1)
    is_pinned = versions.has_prophet(pinned)
    is_settled = far_off[:, -ERROR_DAYS:].sum(axis=1) <= MOST_LEFT_OUT
    fits = np.where(is_pinned & is_settled, pinned, versions.none(n))
    has_steps = events.any(axis=1)
    usable = (scored >= LEAST_DAYS) & is_settled & ~is_pinned & (~has_steps | (scored_since >= STEP_DAYS))
    for some, steps in ((usable & ~has_steps, None), (usable & has_steps, after)):
        if some.any():
            regressors = None if steps is None else _steps(steps[some])
            fits[some] = versions.record(prophet_map.fit(history[some], first_day, regressors=regressors))
    newest = min(ERROR_DAYS, days)
    expected = np.full((newest + HORIZON_DAYS, n), np.nan)
    if (fitted := versions.has_prophet(fits)).any():
        start = first_day + timedelta(days=days - newest)
        expected[:, fitted] = versions.expected(fits[fitted], start, newest + HORIZON_DAYS).T
    rows = np.where(is_pinned, pinned["rows"], scored)
    structure = Structure(
        expected=expected[newest:],
        share=SHARE * rows / (rows + RAMP_DAYS),
        fits=fits,
        sums=np.zeros((FEATURES, n)),
        weights=np.zeros((FEATURES, n)),
    )
    errors = replace(structure, expected=expected[:newest])
    for day in range(newest):
        errors.learn(day, since_event[:, days - newest + day], far_off[:, days - newest + day])
    structure.sums, structure.weights = errors.sums, errors.weights
    return structure


def _steps(after: npt.NDArray[np.int64]) -> Floats:
    """(n, STEPS, T) of each newest event, 0 before it and 1 from it on; 0 throughout where there are fewer events."""
    number = np.arange(STEPS)[None, :, None]
    passed: Bools = (after[:, None, :] <= number) & (after.max(axis=1)[:, None, None] > number)
    return passed.astype(np.float64)


def assemble(n: int, parts: Iterable[tuple[npt.NDArray[np.intp], Structure | None]]) -> Structure:
    """One structure of `n` templates from those of some; the others have no fit."""
    sums, weights = np.zeros((2, FEATURES, n))
    whole = Structure(np.full((HORIZON_DAYS, n), np.nan), np.zeros(n), versions.none(n), sums, weights)
    for rows, part in parts:
        if part is not None:
            whole.fits[rows] = part.fits
            whole.expected[:, rows], whole.share[rows] = part.expected, part.share
            whole.sums[:, rows], whole.weights[:, rows] = part.sums, part.weights
    return whole


def _blend(own: Floats, expected: Floats, share: Floats, correction: Floats) -> Floats:
    blended: Floats = np.where(np.isnan(expected), own, own + share * (expected + correction - own))
    return blended
