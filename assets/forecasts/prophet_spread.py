"""How far a day may lie from Prophet's forecast: its own simulation law without the simulation.

Prophet's law of a future day: `yhat`, plus the observation noise N(0, sigma^2), plus changes of the slope. On every day
after the last observed one the slope changes with probability p = S / span (S changepoints, span in days) by a Laplace
variable of scale b = mean |delta|, half of it on that day and half on the next. So on the h-th day ahead a change made
m days before has moved the trend by (m + 1/2) / span times its size, m = 0 .. h-1, independent of the others. Hence

    variance = sigma^2 + p 2 b^2 sum (m + 1/2)^2 / span^2,     sum over m = (4 h^3 - h) / 12,
    E exp(iwX) = exp(-w^2 sigma^2 / 2) prod_m [1 - p + p / (1 + (w b (m + 1/2) / span)^2)].

With few changes to come the law is a mixture with a narrow body and long tails, not a Gaussian: `quantile` inverts the
characteristic function (Gil-Pelaez; the trapezoid rule is exact to rounding for such functions).

Prophet leaves the doubt about its parameters out. `parameter_variance` adds it: the Gaussian curvature of the posterior
at its maximum, over the coefficients in use.
"""

from datetime import date

import numpy as np
from scipy.special import ndtri

from assets.forecasts.prophet_design import NEVER, Floats
from assets.forecasts.prophet_fits import Fits, design, normal_equations

# Prophet's, so that a history without changes still has some.
_SMALLEST_CHANGE = 1e-8
# Where the noise's factor ends the integral, and where the law is taken to end: beyond lie 1e-15 and 1e-13 of it.
_LAST_FREQUENCY = 8.5
_NOISE_WIDTHS = _MOVED_WIDTHS = 8.0
_CHANGE_WIDTHS = 30.0
# Narrower noise than this share of the law's width is widened to it: the integral's cost grows with the ratio.
_NARROWEST = 1 / 300
_BLOCK = 256
_NEWTON_STEPS = 100
_NEWTON_TOLERANCE = 1e-12


def spread(fits: Fits, first_day: date, days: int) -> Floats:
    """Standard deviation (n, days) of the predictive law, in the values' own units; NaN where there is no fit.

    It is of a day with weight 1: a day's noise has `sigma_obs ** 2 / weight`.

    Args:
        fits: in process.
        first_day: of the first column; in the past only the noise is left.
        days: columns.
    """
    ahead, chance, size = _changes(fits, first_day, days)
    moved = chance * 2 * size**2 * (4 * ahead**3 - ahead) / 12
    return np.sqrt(fits.sigma_obs[:, None] ** 2 + moved) * fits.frame.y_scale[:, None]


def quantile(fits: Fits, first_day: date, days: int, probability: float, extra: Floats | None = None) -> Floats:
    """What is to be added to `yhat` so that a day stays below with this probability, (n, days).

    Args:
        fits: as for `spread`.
        first_day: as for `spread`.
        days: as for `spread`.
        probability: in (0, 1).
        extra: (n, days) further Gaussian variance in the values' own units, such as `parameter_variance`.

    Raises:
        ValueError: the probability isn't inside (0, 1).
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability is {probability}: give one between 0 and 1")
    ahead, chance, size = _changes(fits, first_day, days)
    scale = fits.frame.y_scale[:, None]
    sigma = np.broadcast_to(fits.sigma_obs[:, None], ahead.shape)
    if extra is not None:
        sigma = np.sqrt(sigma**2 + extra / scale**2)
    tail = max(probability, 1 - probability)
    found = sigma * ndtri(tail)
    # The law's other part matters where it shows beside the noise at all.
    total = np.sqrt(sigma**2 + chance * 2 * size**2 * (4 * ahead**3 - ahead) / 12)
    mixed = (ahead > 0) & (total > sigma * (1 + 1e-12))
    for column in range(days):
        rows = np.flatnonzero(mixed[:, column])
        for ahead_by in np.unique(ahead[rows, column]):
            some = rows[ahead[rows, column] == ahead_by]
            laws = (sigma[some, column], chance[some, 0], size[some, 0])
            found[some, column] = _invert(tail, laws, int(ahead_by))
    added: Floats = np.copysign(1.0, probability - 0.5) * found * scale
    return added


def _changes(fits: Fits, first_day: date, days: int) -> tuple[Floats, Floats, Floats]:
    """Days after the last observed (n, days), 0 in the past; a day's chance of a change and its size a day, (n, 1)."""
    frame = fits.frame
    offset = (first_day - fits.first_day).days
    ahead = np.maximum(offset + np.arange(days) - (frame.start + frame.span)[:, None], 0).astype(float)
    # Prophet keeps one change of size 0 where it has no changepoints.
    changes = np.maximum((frame.changepoints < NEVER).sum(axis=1), 1)
    size = np.abs(fits.delta).sum(axis=1) / changes + _SMALLEST_CHANGE
    if fits.settings.growth == "flat":
        size = np.zeros(len(fits))
    return ahead, np.minimum(changes / frame.span, 1.0)[:, None], (size / frame.span)[:, None]


def _invert(tail: float, laws: tuple[Floats, Floats, Floats], ahead: int) -> Floats:
    """The quantile of each law (sigma, chance, size) so many days ahead, for a tail above 1/2."""
    sigma, chance, size = laws
    moved = np.sqrt(chance * 2 * size**2 * (4 * ahead**3 - ahead) / 12)
    changed = _MOVED_WIDTHS * moved + _CHANGE_WIDTHS * size * (ahead - 0.5)
    sigma = np.maximum(sigma, _NARROWEST * changed)
    width = _NOISE_WIDTHS * sigma + changed
    wanted = _LAST_FREQUENCY / sigma * width / np.pi
    # By its own need and in few sizes: a law's answer doesn't depend on those it is solved with.
    nodes = 2 ** np.ceil(np.log2(wanted)).astype(int)
    found = np.empty(len(sigma))
    for number in np.unique(nodes):
        alike = np.flatnonzero(nodes == number)
        for first in range(0, len(alike), _BLOCK):
            some = alike[first : first + _BLOCK]
            step = _LAST_FREQUENCY / sigma[some] / number
            frequencies = (np.arange(number) + 0.5) * step[:, None]
            transform = np.exp(-((sigma[some, None] * frequencies) ** 2) / 2)
            for days in range(ahead):
                shape = (size[some, None] * (days + 0.5) * frequencies) ** 2
                transform *= 1 - chance[some, None] * shape / (1 + shape)
            found[some] = _solve(tail, sigma[some] * ndtri(tail), frequencies, transform * step[:, None] / np.pi)
    return found


def _solve(tail: float, below: Floats, frequencies: Floats, density: Floats) -> Floats:
    """Newton's steps from below: they rise to the quantile without passing it, as the law is symmetric and unimodal."""
    found = below.copy()
    left = np.arange(len(found))
    for _ in range(_NEWTON_STEPS):
        angle = frequencies[left] * found[left, None]
        missing = tail - 0.5 - (density[left] / frequencies[left] * np.sin(angle)).sum(axis=1)
        step = missing / (density[left] * np.cos(angle)).sum(axis=1)
        found[left] += step
        left = left[step > _NEWTON_TOLERANCE * found[left]]
        if not len(left):
            break
    return found


def parameter_variance(fits: Fits, values: Floats, first_day: date, days: int, weights: Floats | None = None) -> Floats:
    """Variance (n, days) of `yhat` for the doubt about its coefficients, in the values' own units squared.

    Changepoints that the fit leaves unused stay so, and the noise is taken as known. 0 where nothing was maximised.

    Args:
        fits: as for `spread`.
        values: that were fitted.
        first_day: as for `spread`.
        days: as for `spread`.
        weights: that were fitted with.
    """
    found = np.zeros((len(fits), days))
    for some, made, precision in normal_equations(fits, values, weights):
        part = fits.of(some)
        q = len(precision)
        curvature = np.zeros((len(some), q + part.delta.shape[1], q + part.delta.shape[1]))
        active = part.delta != 0
        noise = part.sigma_obs[:, None, None] ** 2
        curvature[:, :q, :q] = made.smooth / noise + np.diag(precision)
        curvature[:, :q, q:] = made.cross / noise * active[:, None, :]
        curvature[:, q:, :q] = curvature[:, :q, q:].swapaxes(1, 2)
        curvature[:, q:, q:] = made.hinges / noise * (active[:, :, None] & active[:, None, :])
        # An unused coefficient is a unit of its own.
        unused = np.arange(q, curvature.shape[1])
        curvature[:, unused, unused] += ~active
        rows = design(part, first_day, days, q)
        rows[:, :, q:] *= active[:, None, :]
        by_row = np.linalg.solve(curvature, rows.swapaxes(1, 2))
        found[some] = (rows * by_row.swapaxes(1, 2)).sum(axis=2) * part.frame.y_scale[:, None] ** 2
    return found
