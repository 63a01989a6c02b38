"""Fits of many templates in process: which histories are solved, what is kept of a fit, what it expects of a day.

Belongs here: the batch solver's fits and their forecasts. Does not belong here: settings that need Prophet itself
(prophet_reference.py); who chooses between them (prophet_map.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from assets.forecasts.prophet_design import (
    NEVER,
    Equations,
    Floats,
    Frame,
    Ints,
    Settings,
    equations,
    fourier,
    frame,
    precisions,
    rough_noise,
)
from assets.forecasts.prophet_solver import SIGMA_FLOOR, Solution, solve

Texts = npt.NDArray[np.object_]

# What became of a history; `Fits.status` holds positions in here.
STATUSES = ("fitted", "constant", "exact", "point", "empty", "failed")
FITTED, CONSTANT, EXACT, POINT, EMPTY, FAILED = range(len(STATUSES))
# Prophet's own for a constant history.
_CONSTANT_SIGMA = 1e-9
_SEASONAL = 26
_WEEKLY = 6
# How many times less than the fit's noise a rough estimate must be to look for a lower peak, and what is a better one.
_MORE_ALIKE = 4.0
_BETTER = 1e-6
# A peak of less than so many times less noise lies right beside another.
_BESIDE = 5.0
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
        models: (n,) Prophet's own models as JSON where the settings need it, else "".
        errors: (n,) why Prophet failed, else "".
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
    models: Texts
    errors: Texts

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
    fits = begin(values, first_day, weights, regressors, settings)
    if start is not None and start.delta.shape != fits.delta.shape:
        raise ValueError(f"start has delta of shape {start.delta.shape}, wanted {fits.delta.shape}: one fit a template")
    for some, made, precision in normal_equations(fits, values, weights):
        near = None
        if start is not None:
            near = start.sigma_obs[some] ** 2, np.where(fits.frame.changepoints[some] < NEVER, start.delta[some], 0.0)
        solution = solve(made, precision, settings.changepoint_prior_scale, near)
        _look_lower(solution, made, precision, settings, rough_noise(values[some], fits.frame.of(some)))
        terms = len(precision) - 2 - fits.regressors.shape[1]
        fits.k[some] = solution.smooth[:, 1]
        fits.m[some] = solution.smooth[:, 0] + made.centre
        fits.delta[some] = solution.delta
        fits.beta[some, :terms] = solution.smooth[:, 2 : 2 + terms]
        fits.beta[some, _SEASONAL:] = solution.smooth[:, 2 + terms :]
        fits.sigma_obs[some] = np.sqrt(solution.noise)
        fits.log_posterior[some] = solution.log_posterior
        _tell_failed(fits, some[~solution.converged])
    fits.status[(fits.status == FITTED) & (fits.sigma_obs <= SIGMA_FLOOR)] = EXACT
    return fits


def _look_lower(solution: Solution, made: Equations, precision: Floats, settings: Settings, rough: Floats) -> None:
    """Take a better peak with less noise, where days look that much more alike than the first peak has it.

    Prophet begins high and mostly stays on the first peak. Where there are fewer days than coefficients it is right:
    peaks far below are the model's way of going through every point, and only one right beside the first is another.
    """
    bounded = made.rows > len(precision) + solution.delta.shape[1]
    some = np.flatnonzero(~bounded | (rough < solution.noise / _MORE_ALIKE))
    if not len(some):
        return
    begin_at = np.where(bounded, rough, solution.noise / _BESIDE)[some]
    lower = solve(made.of(some), precision, settings.changepoint_prior_scale, (begin_at, solution.delta[some]))
    better = lower.log_posterior > solution.log_posterior[some] + _BETTER
    better &= lower.converged & (bounded[some] | (lower.noise > solution.noise[some] / _BESIDE))
    for ours, its in zip(solution, lower, strict=True):
        ours[some[better]] = its[better]


def _tell_failed(fits: Fits, templates: Ints) -> None:
    fits.status[templates] = FAILED
    fits.errors[templates] = "the search for the maximum did not end"
    for numbers in (fits.m, fits.sigma_obs, fits.log_posterior):
        numbers[templates] = np.nan


def _check(values: Floats, weights: Floats, regressors: Floats) -> None:
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


def begin(
    values: Floats, first_day: date, weights: Floats | None, regressors: Floats | None, settings: Settings
) -> Fits:
    """Check what is given; frames, and the answers that need no solver. The rest has status FITTED, and no numbers yet.

    Raises:
        ValueError: as `prophet_map.fit`.
    """
    values = np.array(values, dtype=float, ndmin=2)
    weights = np.ones(values.shape) if weights is None else weights
    regressors = np.empty((len(values), 0, values.shape[1])) if regressors is None else regressors
    _check(values, weights, regressors)
    values[weights == 0] = np.nan
    templates = len(values)
    made = frame(values, settings)
    seen = ~np.isnan(values)
    highest = np.where(seen, values, -np.inf).max(axis=1, initial=-np.inf)
    lowest = np.where(seen, values, np.inf).min(axis=1, initial=np.inf)
    status = np.where(highest == lowest, CONSTANT, FITTED)
    status[made.rows == 1] = POINT
    status[made.rows == 0] = EMPTY
    return Fits(
        settings=settings,
        first_day=first_day,
        frame=made,
        k=np.zeros(templates),
        m=np.where(made.rows > 0, highest / made.y_scale, np.nan),
        delta=np.zeros(made.changepoints.shape),
        beta=np.zeros((templates, _SEASONAL + regressors.shape[1])),
        sigma_obs=np.where(status == CONSTANT, _CONSTANT_SIGMA, np.nan),
        log_posterior=np.full(templates, np.nan),
        status=status,
        regressors=regressors,
        models=np.full(templates, "", dtype=object),
        errors=np.full(templates, "", dtype=object),
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
    solved = ((fits.status == FITTED) | (fits.status == EXACT)) & (fits.models == "")
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
    made[:, :, 1] = 0.0 if fits.settings.growth == "flat" else hinges[:, :, 0]
    made[:, :, 2 : 2 + terms] = fourier(first_day, days, yearly=terms > _WEEKLY)
    made[~fits.frame.weekly, :, 2 : 2 + _WEEKLY] = 0.0
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
