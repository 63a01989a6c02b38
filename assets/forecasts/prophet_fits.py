"""Fits of many templates in process: which histories are solved, what is kept of a fit, what it expects of a day.

Belongs here: the batch solver's fits and their forecasts. Does not belong here: settings that need Prophet itself
(prophet_reference.py); who chooses between them (prophet_map.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import NamedTuple

import numpy as np

from assets.forecasts.prophet_design import (
    Equations,
    Floats,
    Frame,
    Ints,
    Settings,
    equations,
    fourier,
    frame,
    precisions,
)
from assets.forecasts.prophet_solver import SIGMA_FLOOR, solve

# What became of a history; `Fits.status` holds positions in here.
STATUSES = ("fitted", "constant", "exact", "point", "empty")
_FITTED, _CONSTANT, _EXACT, _POINT, _EMPTY = range(len(STATUSES))
# Prophet's own for a constant history.
_CONSTANT_SIGMA = 1e-9
_SEASONAL = 26
_WEEKLY = 6
# Templates whose equations are held at a time.
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Fits:
    """Fits of n templates, parameters named as Prophet's and in units of each template's scale.

    Attributes:
        settings: they were made with.
        first_day: of the first column; days below are counted from it.
        frame: scales, changepoints and seasonalities in use.
        k, m: (n,) slope per span and offset at the first observed day.
        delta: (n, S) changes of the slope.
        beta: (n, 26 + R) weekly, yearly and regressors' coefficients, 0 where they are not in use.
        sigma_obs: (n,) noise.
        log_posterior: (n,) as Prophet's Stan program counts it; NaN where nothing was maximised.
        status: (n,) positions in STATUSES.
        regressors: (n, R, days) as given; R is 0 if there are none.
    """

    settings: Settings
    first_day: date
    frame: Frame
    k: Floats
    m: Floats
    delta: Floats
    beta: Floats
    sigma_obs: Floats
    log_posterior: Floats
    status: Ints
    regressors: Floats

    def __len__(self) -> int:
        return len(self.k)

    def of(self, templates: Ints) -> "Fits":
        """The fits of some of the templates."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("settings", "first_day")}
        arrays = {name: array.of(templates) if name == "frame" else array[templates] for name, array in arrays.items()}
        return replace(self, **arrays)


class Components(NamedTuple):
    """Parts of a forecast, each (n, days) in the values' own units: their sum is `yhat`."""

    trend: Floats
    weekly: Floats
    yearly: Floats
    regressors: Floats

    @property
    def yhat(self) -> Floats:
        """Their sum."""
        return self.trend + self.weekly + self.yearly + self.regressors


def fit(
    values: Floats,
    first_day: date,
    weights: Floats | None,
    regressors: Floats | None,
    settings: Settings,
    start: Fits | None,
) -> Fits:
    """As `prophet_map.fit`, in process."""
    values = np.array(values, dtype=float, ndmin=2)
    given = np.ones(values.shape) if weights is None else weights
    extra = np.empty((len(values), 0, values.shape[1])) if regressors is None else regressors
    _check(values, given, extra, start)
    fits = _unfitted(np.where(given > 0, values, np.nan), first_day, extra, settings)
    for some, made, precision in normal_equations(fits, values, weights):
        begin = None if start is None else (start.sigma_obs[some] ** 2, start.delta[some])
        solution = solve(made, precision, settings.changepoint_prior_scale, begin)
        terms = len(precision) - 2 - extra.shape[1]
        fits.k[some] = solution.smooth[:, 1]
        fits.m[some] = solution.smooth[:, 0] + made.centre
        fits.delta[some] = solution.delta
        fits.beta[some, :terms] = solution.smooth[:, 2 : 2 + terms]
        fits.beta[some, _SEASONAL:] = solution.smooth[:, 2 + terms :]
        fits.sigma_obs[some] = np.sqrt(solution.noise)
        fits.log_posterior[some] = solution.log_posterior
    fits.status[(fits.status == _FITTED) & (fits.sigma_obs <= SIGMA_FLOOR)] = _EXACT
    return fits


def _check(values: Floats, weights: Floats, regressors: Floats, start: Fits | None) -> None:
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        template, day = infinite[0]
        raise ValueError(f"values[{template}, {day}] is infinite: leave out what isn't a number (NaN)")
    if weights.shape != values.shape:
        raise ValueError(f"weights have shape {weights.shape}, values {values.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights must be finite and not negative; 0 leaves a day out")
    templates, days = values.shape
    if regressors.ndim != 3 or len(regressors) != templates or regressors.shape[2] < days:  # noqa: PLR2004
        raise ValueError(f"regressors have shape {regressors.shape}, wanted ({templates}, R, {days} or more)")
    if not np.isfinite(regressors).all():
        raise ValueError("regressors hold values that are not finite: give every day a number")
    if start is not None and len(start) != templates:
        raise ValueError(f"start holds {len(start)} fits, values {templates} templates: give one for each")


def _unfitted(values: Floats, first_day: date, regressors: Floats, settings: Settings) -> Fits:
    """Frames, and the answers that need no solver."""
    templates = len(values)
    made = frame(values, settings)
    seen = ~np.isnan(values)
    highest = np.where(seen, values, -np.inf).max(axis=1, initial=-np.inf)
    lowest = np.where(seen, values, np.inf).min(axis=1, initial=np.inf)
    status = np.where(highest == lowest, _CONSTANT, _FITTED)
    status[made.rows == 1] = _POINT
    status[made.rows == 0] = _EMPTY
    return Fits(
        settings=settings,
        first_day=first_day,
        frame=made,
        k=np.zeros(templates),
        m=np.where(made.rows > 0, highest / made.y_scale, np.nan),
        delta=np.zeros(made.changepoints.shape),
        beta=np.zeros((templates, _SEASONAL + regressors.shape[1])),
        sigma_obs=np.where(status == _CONSTANT, _CONSTANT_SIGMA, np.nan),
        log_posterior=np.full(templates, np.nan),
        status=status,
        regressors=regressors,
    )


def normal_equations(
    fits: Fits, values: Floats, weights: Floats | None = None
) -> Iterator[tuple[Ints, Equations, Floats]]:
    """What was, or is to be, solved: templates alike in their columns, their equations, the columns' prior precisions.

    Args:
        fits: of these values; constant, single and absent histories have no equations.
        values: (n, T).
        weights: (n, T) or None.
    """
    seen = np.isnan(values) == 0
    given = np.where(seen, 1.0 if weights is None else weights, 0.0)
    solved = (fits.status == _FITTED) | (fits.status == _EXACT)
    for yearly in (False, True):
        alike = np.flatnonzero(solved & (fits.frame.yearly == yearly))
        precision = precisions(fits.regressors.shape[1], fits.settings, yearly=yearly)
        for first in range(0, len(alike), _BLOCK):
            some = alike[first : first + _BLOCK]
            extra = fits.regressors[some, :, : values.shape[1]]
            part = fits.frame.of(some)
            made = equations(values[some], given[some], extra, part, fits.first_day, fits.settings)
            yield some, made, precision


def components(fits: Fits, first_day: date, days: int) -> Components:
    """The expected values' parts, of days in or after the histories.

    Raises:
        ValueError: days before the fits' first, or after the last that the regressors tell of.
    """
    ahead, known = _ahead(fits, first_day, days)
    span = fits.frame.span[:, None]
    trend = fits.m[:, None] + fits.k[:, None] * (ahead - fits.frame.start[:, None]) / span
    for number in np.flatnonzero(fits.delta.any(axis=0)):
        knee = fits.frame.changepoints[:, number, None]
        trend += fits.delta[:, number, None] * np.maximum(ahead - knee, 0.0) / span
    terms = fourier(first_day, days, yearly=True)
    scale = fits.frame.y_scale[:, None]
    return Components(
        trend=trend * scale,
        weekly=_along(fits.beta[:, :_WEEKLY], terms[:, :_WEEKLY]) * scale,
        yearly=_along(fits.beta[:, _WEEKLY:_SEASONAL], terms[:, _WEEKLY:]) * scale,
        regressors=(fits.beta[:, None, _SEASONAL:] @ known)[:, 0] * scale,
    )


def design(fits: Fits, first_day: date, days: int, smooth: int) -> Floats:
    """(n, days, q + S): offset, slope, Fourier terms and regressors (q = `smooth` columns), then hinges."""
    ahead, known = _ahead(fits, first_day, days)
    knees = np.column_stack([fits.frame.start, fits.frame.changepoints])
    hinges = np.maximum(ahead[:, None] - knees[:, None, :], 0.0) / fits.frame.span[:, None, None]
    made = np.empty((len(fits), days, smooth + knees.shape[1] - 1))
    terms = smooth - 2 - known.shape[1]
    made[:, :, 0] = 1.0
    made[:, :, 1] = hinges[:, :, 0]
    made[:, :, 2 : 2 + terms] = fourier(first_day, days, yearly=terms > _WEEKLY)
    made[:, :, 2 + terms : smooth] = known.swapaxes(1, 2)
    made[:, :, smooth:] = hinges[:, :, 1:]
    return made


def _ahead(fits: Fits, first_day: date, days: int) -> tuple[Floats, Floats]:
    """The days counted from the fits' first, and the regressors (n, R, days) on them."""
    offset = (first_day - fits.first_day).days
    if offset < 0:
        raise ValueError(f"{first_day} is before the first day of the fits, {fits.first_day}")
    ahead = np.arange(offset, offset + days, dtype=float)
    if not fits.regressors.shape[1]:
        return ahead, np.empty((len(fits), 0, days))
    known = fits.regressors[:, :, offset : offset + days]
    if known.shape[2] < days:
        raise ValueError(f"the regressors tell of {fits.regressors.shape[2]} days from {fits.first_day} on, no more")
    return ahead, known


def _along(coefficients: Floats, terms: Floats) -> Floats:
    """(n, days); a product for each template alone, as a matrix product's last bits depend on how many rows it has."""
    return (coefficients[:, None, :] @ terms.T)[:, 0]
