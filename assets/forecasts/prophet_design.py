"""Prophet's preprocessing for many templates at once: scales, changepoints, Fourier terms and normal equations.

Belongs here: what `prophet.forecaster` makes of a history before its optimiser starts, on arrays (templates, days) with
NaN where nothing was scored. Does not belong here: finding the maximum (prophet_solver.py).

A template's own design differs from its neighbours' by its first and last day and its changepoints only. So the normal
equations are sums over one shared calendar: Fourier terms are the same columns for all, and the product of two hinges
with their knees at days c <= d is sum w (u - d)^2 + (d - c) sum w (u - d) over the days u > d, which needs no design.
"""

from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

WEEKLY = (7.0, 3)
YEARLY = (365.25, 10)
_WEEKLY_COLUMNS = 2 * WEEKLY[1]
_YEARLY_COLUMNS = 2 * YEARLY[1]
# Standard deviation of Prophet's priors on offset and growth; that of the noise is its half-normal's.
TREND_PRIOR_SCALE = 5.0
NOISE_PRIOR_SCALE = 0.5
_WEEK = 7
_YEAR = 365
_EPOCH = date(1970, 1, 1)
# A slice's products stay below the size from which OpenBLAS starts threads, whose waiting costs more than they bring.
_SLICE_DAYS = 128
_SLICE_TEMPLATES = 64


@dataclass(frozen=True, slots=True)
class Settings:
    """Prophet's settings under its own names and defaults; what is not served in process goes to Prophet itself.

    Attributes:
        growth: "linear" and "flat" are solved here, "logistic" (which needs `cap`) by Prophet.
        n_changepoints: at most; a short history has fewer.
        changepoint_range: share of a history's observed days from its start that may hold changepoints.
        changepoint_prior_scale: of the Laplace prior on changes of the slope.
        seasonality_prior_scale: standard deviation of the prior on Fourier coefficients, in units of the scale.
        regressor_prior_scale: the same for regressors.
        weekly_seasonality: "auto" (two weeks of history with days closer than a week), always or never.
        yearly_seasonality: "auto" (from 730 days), always or never.
        seasonality_mode: "multiplicative" is solved by Prophet.
        holidays: (name, day) pairs; solved by Prophet.
        cap: the capacity for logistic growth, above every value.
    """

    growth: Literal["linear", "flat", "logistic"] = "linear"
    n_changepoints: int = 25
    changepoint_range: float = 0.8
    changepoint_prior_scale: float = 0.05
    seasonality_prior_scale: float = 10.0
    regressor_prior_scale: float = 10.0
    weekly_seasonality: bool | Literal["auto"] = "auto"
    yearly_seasonality: bool | Literal["auto"] = "auto"
    seasonality_mode: Literal["additive", "multiplicative"] = "additive"
    holidays: tuple[tuple[str, date], ...] = ()
    cap: float | None = None

    @property
    def in_process(self) -> bool:
        """Whether the batch solver serves these settings."""
        return self.growth != "logistic" and self.seasonality_mode == "additive" and not self.holidays


class Frame(NamedTuple):
    """What a template's history is measured by. All of length n, days counted from the panel's first column.

    Attributes:
        start: first observed day, 0 if there is none.
        span: days from the first to the last observed one, 1 if they are the same.
        rows: observed days.
        y_scale: largest absolute value, 1 if that is 0.
        changepoints: (n, S) days, strictly increasing; `NEVER` where a short history has fewer.
        weekly: whether the weekly terms are in use.
        yearly: whether the yearly terms are in use.
    """

    start: Ints
    span: Ints
    rows: Ints
    y_scale: Floats
    changepoints: Ints
    weekly: Bools
    yearly: Bools

    def of(self, templates: Ints) -> "Frame":
        """The same for some of the templates."""
        return Frame._make(field[templates] for field in self)


# A day that no panel reaches: its hinge is zero everywhere.
NEVER = 1 << 40


class Equations(NamedTuple):
    """Weighted normal equations X'WX theta = X'Wy of n templates, y scaled and less its mean.

    Smooth columns: offset, slope, Fourier terms, regressors (q). Hinges: one a changepoint (S).

    Attributes:
        smooth: (n, q, q). hinges: (n, S, S). cross: (n, q, S).
        smooth_y: (n, q). hinges_y: (n, S). yy: (n,).
        centre: (n,) the mean taken from y. rows: (n,) observed days as floats.
    """

    smooth: Floats
    hinges: Floats
    cross: Floats
    smooth_y: Floats
    hinges_y: Floats
    yy: Floats
    centre: Floats
    rows: Floats

    def of(self, templates: Ints) -> "Equations":
        """The same for some of the templates."""
        return Equations._make(field[templates] for field in self)


def frame(values: Floats, settings: Settings) -> Frame:
    """Scales, changepoints and seasonalities by Prophet's rules.

    Args:
        values: (n, T), one column a day, NaN where nothing was scored.
        settings: which of Prophet's.
    """
    templates, days = values.shape
    seen = ~np.isnan(values)
    rows = seen.sum(axis=1)
    some = rows > 0
    start = np.where(some, seen.argmax(axis=1), 0)
    last = np.where(some, days - 1 - seen[:, ::-1].argmax(axis=1), 0)
    y_scale = np.abs(np.where(seen, values, 0.0)).max(axis=1, initial=0.0)
    y_scale[y_scale == 0] = 1.0
    template, day = np.nonzero(seen)
    close = (np.diff(day) < _WEEK) & (template[1:] == template[:-1])
    often = np.zeros(templates, dtype=bool)
    often[template[1:][close]] = True
    weekly = _enabled(settings.weekly_seasonality, (last - start >= 2 * _WEEK) & often)
    yearly = _enabled(settings.yearly_seasonality, last - start >= 2 * _YEAR)
    return Frame(
        start=start,
        span=np.maximum(last - start, 1),
        rows=rows,
        y_scale=y_scale,
        changepoints=_changepoints(day, rows, settings),
        weekly=weekly,
        yearly=yearly,
    )


def _enabled(setting: bool | Literal["auto"], auto: Bools) -> Bools:
    return auto if setting == "auto" else np.full_like(auto, setting)


def _changepoints(day: Ints, rows: Ints, settings: Settings) -> Ints:
    """Placed evenly by observed day; `day` holds all templates' observed days, one template after the other."""
    found = np.full((len(rows), settings.n_changepoints), NEVER, dtype=np.int64)
    if settings.growth == "flat":
        return found
    first = np.cumsum(rows) - rows
    # As many different answers as there are different numbers of rows.
    for count in np.unique(rows):
        history = int(np.floor(count * settings.changepoint_range))
        number = min(settings.n_changepoints, history - 1)
        if number > 0:
            chosen = np.linspace(0, history - 1, number + 1).round().astype(int)[1:]
            same = np.flatnonzero(rows == count)
            found[same, :number] = day[first[same, None] + chosen]
    return found


def rough_noise(values: Floats, frames: Frame) -> Floats:
    """Variance (n,) of the noise in units of the scale, from second differences a week apart; NaN where there are none.

    They know neither weekdays nor slopes.
    """
    bends = (values[:, 2 * _WEEK :] - 2 * values[:, _WEEK:-_WEEK] + values[:, : -2 * _WEEK]) / frames.y_scale[:, None]
    known = (~np.isnan(bends)).sum(axis=1)
    squares = np.where(np.isnan(bends), 0.0, bends**2).sum(axis=1)
    noise: Floats = np.divide(squares / 6, known, out=np.full(len(values), np.nan), where=squares > 0)
    return noise


def fourier(first_day: date, days: int, *, yearly: bool) -> Floats:
    """Weekly and, if asked, yearly Fourier terms (days, 6 or 26), in Prophet's order and from its epoch."""
    angle = np.pi * 2 * ((first_day - _EPOCH).days + np.arange(days, dtype=float))
    columns = []
    for period, order in (WEEKLY, YEARLY) if yearly else (WEEKLY,):
        for number in range(1, order + 1):
            columns += [np.sin(number / period * angle), np.cos(number / period * angle)]
    return np.stack(columns, axis=1)


def precisions(regressors: int, settings: Settings, *, yearly: bool) -> Floats:
    """(q,) the priors' precisions of the smooth columns."""
    terms = _WEEKLY_COLUMNS + (_YEARLY_COLUMNS if yearly else 0)
    scales = [TREND_PRIOR_SCALE] * 2 + [settings.seasonality_prior_scale] * terms
    return np.array(scales + [settings.regressor_prior_scale] * regressors) ** -2.0


def equations(
    values: Floats, weights: Floats, regressors: Floats, frames: Frame, first_day: date, settings: Settings
) -> Equations:
    """The normal equations of templates that all use, or all don't use, yearly terms.

    Args:
        values: (n, T) with NaN.
        weights: (n, T), 0 where nothing was scored.
        regressors: (n, R, T).
        frames: of the same templates.
        first_day: of the first column.
        settings: growth is what counts here.
    """
    templates, days = values.shape
    scaled = np.where(weights > 0, values, 0.0) / frames.y_scale[:, None]
    total = weights.sum(axis=1)
    centre = (weights * scaled).sum(axis=1) / total
    centred = np.where(weights > 0, scaled - centre[:, None], 0.0)
    yearly = bool(frames.yearly.any())
    terms = np.column_stack([np.ones(days), fourier(first_day, days, yearly=yearly)])
    # The slope's column is one more hinge, with its knee at the template's first day.
    knees = np.column_stack([frames.start, frames.changepoints]).astype(float)
    width = terms.shape[1] + regressors.shape[1] + 1
    hinge_by = np.zeros((templates, knees.shape[1], width))
    squares = np.zeros(knees.shape)
    smooth_by = np.zeros((templates, width - 1, width))
    for first in range(0, templates, _SLICE_TEMPLATES):
        block = np.arange(first, min(first + _SLICE_TEMPLATES, templates))
        for day in range(0, days, _SLICE_DAYS):
            some = slice(day, min(day + _SLICE_DAYS, days))
            # A slice without observations adds nothing, not even in the last bit.
            rows = block[weights[block, some].any(axis=1)]
            if len(rows):
                _add_slice(rows, some, (terms, regressors, centred, weights), knees, (hinge_by, squares, smooth_by))
    by_y = np.einsum("ij,ij,ij->i", weights, centred, centred)
    return _assemble(frames, knees, hinge_by, squares, smooth_by, by_y, centre, settings)


def _add_slice(
    rows: Ints,
    some: slice,
    data: tuple[Floats, Floats, Floats, Floats],
    knees: Floats,
    sums: tuple[Floats, Floats, Floats],
) -> None:
    terms, extra, centred, weights = data
    hinge_by, squares, smooth_by = sums
    weight = weights[rows, some]
    known = terms[some]
    right = np.empty((len(rows), len(known), hinge_by.shape[2]))
    right[:, :, : known.shape[1]] = known
    right[:, :, known.shape[1] : -1] = extra[rows, :, some].swapaxes(1, 2)
    right[:, :, -1] = centred[rows, some]
    right *= weight[:, :, None]
    hinges = np.arange(some.start, some.stop, dtype=float) - knees[rows][:, :, None]
    np.maximum(hinges, 0.0, out=hinges)
    hinge_by[rows] += hinges @ right
    np.square(hinges, out=hinges)
    squares[rows] += (hinges @ weight[:, :, None])[:, :, 0]
    smooth_by[rows, : known.shape[1]] += np.ascontiguousarray(known.T) @ right
    if extra.shape[1]:
        smooth_by[rows, known.shape[1] :] += extra[rows, :, some] @ right


def _assemble(
    frames: Frame,
    knees: Floats,
    hinge_by: Floats,
    squares: Floats,
    smooth_by: Floats,
    yy: Floats,
    centre: Floats,
    settings: Settings,
) -> Equations:
    span = frames.span.astype(float)[:, None]
    hinge_by = hinge_by / span[:, :, None]
    squares = squares / span**2
    number = knees.shape[1]
    later = np.maximum(np.arange(number)[:, None], np.arange(number))
    apart = np.abs(knees[:, :, None] - knees[:, None, :]) / span[:, :, None]
    between = squares[:, later] + apart * hinge_by[:, later, 0]
    # Columns in order: offset, slope (the first hinge), the rest.
    q = smooth_by.shape[1] + 1
    others = np.r_[0, 2:q]
    smooth = np.empty((len(knees), q, q))
    smooth[:, others[:, None], others] = smooth_by[:, :, :-1]
    smooth[:, 1, others] = smooth[:, others, 1] = hinge_by[:, 0, :-1]
    smooth[:, 1, 1] = between[:, 0, 0]
    cross = np.empty((len(knees), q, number - 1))
    cross[:, others] = hinge_by[:, 1:, :-1].swapaxes(1, 2)
    cross[:, 1] = between[:, 0, 1:]
    smooth_y = np.empty((len(knees), q))
    smooth_y[:, others] = smooth_by[:, :, -1]
    smooth_y[:, 1] = hinge_by[:, 0, -1]
    _switch_off(smooth, cross, smooth_y, ~frames.weekly, slice(2, 2 + _WEEKLY_COLUMNS))
    if settings.growth == "flat":
        _switch_off(smooth, cross, smooth_y, np.ones(len(knees), dtype=bool), slice(1, 2))
    return Equations(
        smooth, between[:, 1:, 1:], cross, smooth_y, hinge_by[:, 1:, -1], yy, centre, frames.rows.astype(float)
    )


def _switch_off(smooth: Floats, cross: Floats, smooth_y: Floats, which: Bools, columns: slice) -> None:
    """Make columns zero: their prior alone is left, whose maximum is a coefficient of 0."""
    smooth[which, columns, :] = 0.0
    smooth[which, :, columns] = 0.0
    cross[which, columns] = 0.0
    smooth_y[which, columns] = 0.0
