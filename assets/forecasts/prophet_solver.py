"""The maximum of Prophet's posterior density for many templates at once, from their normal equations.

Given the noise s = sigma^2, what Prophet maximises is a lasso in the changes of the slope and a ridge in the rest. The
rest is eliminated (a Schur complement); the lasso is solved by an active set that adds the most violated changepoint
and steps back where a sign would turn (feature-sign search, Lee et al. 2006), until the conditions for a maximum hold.
Given the coefficients, the best s solves 4 s^2 + T s = SSE.

The two are a fixed point of an increasing map: from the variance of y it falls to the highest one and cannot pass it.
Secant steps shorten the way, but only with more days than coefficients: with fewer the density grows without bound as
s falls, a peak of its own may be shallow, and a long step would leap over it.

Each template's numbers come from operations on its own arrays alone: they are the same in whatever company it is.
"""

from typing import NamedTuple

import numpy as np

from assets.forecasts.prophet_design import NOISE_PRIOR_SCALE, Bools, Equations, Floats, Ints

# The density has no maximum where a model goes through every point: the noise stops here, in units of the scale.
SIGMA_FLOOR = 1e-5
_MAX_NOISE_STEPS = 200
_NOISE_TOLERANCE = 1e-9
# Where rounding keeps the steps from getting smaller: worth 1e-10 nats.
_ROUNDED_TOLERANCE = 1e-5
_KKT_TOLERANCE = 1e-9
# A secant step multiplies a step of the fixed point's by up to 1 / (1 - slope).
_STEEPEST = 0.97


class Solution(NamedTuple):
    """Coefficients in units of the scale, the offset less the mean of y.

    Attributes:
        smooth: (n, q). delta: (n, S). noise: (n,) sigma^2. log_posterior: (n,) as Stan counts it, without constants.
        converged: (n,) whether the conditions for a maximum hold.
    """

    smooth: Floats
    delta: Floats
    noise: Floats
    log_posterior: Floats
    converged: Bools


def solve(equations: Equations, precision: Floats, tau: float, start: tuple[Floats, Floats] | None = None) -> Solution:
    """Maximise over all coefficients and the noise.

    Args:
        equations: of n templates.
        precision: (q,) of the Gaussian priors.
        tau: scale of the Laplace prior on delta.
        start: noise (n,) and delta (n, S) to begin with, from an earlier fit; NaN noise where there is none.
    """
    templates, q = equations.smooth_y.shape
    found = Solution(
        np.zeros((templates, q)),
        np.zeros(equations.hinges_y.shape),
        np.maximum(best_noise(equations.yy, equations.rows), SIGMA_FLOOR**2),
        np.empty(templates),
        np.zeros(templates, dtype=bool),
    )
    if start is not None:
        known = np.isfinite(start[0])
        found.noise[known] = start[0][known]
        found.delta[known] = start[1][known]
    before = np.full((2, templates), np.nan)
    left = np.arange(templates)
    for _ in range(_MAX_NOISE_STEPS):
        part = equations.of(left)
        smooth, delta, ended = _coefficients(part, precision, tau, found.noise[left], found.delta[left])
        found.smooth[left], found.delta[left] = smooth, delta
        here = np.log(found.noise[left])
        wanted = np.maximum(best_noise(_squares(part, smooth, delta), part.rows), SIGMA_FLOOR**2)
        gap = np.log(wanted) - here
        done = np.abs(gap) <= _NOISE_TOLERANCE
        found.converged[left[done]] = ended[done]
        slope = 1.0 + (gap - before[1, left]) / (here - before[0, left])
        # Not on the first step, which has no slope.
        secant = (slope > 0) & (slope < _STEEPEST) & (part.rows > q + delta.shape[1])
        step = gap / np.where(secant, 1.0 - slope, 1.0)
        before[0, left], before[1, left] = here, gap
        found.noise[left] = np.where(done, found.noise[left], np.maximum(np.exp(here + step), SIGMA_FLOOR**2))
        left = left[~done & np.isfinite(gap)]
        if not len(left):
            break
    found.converged[left] = np.abs(before[1, left]) <= _ROUNDED_TOLERANCE
    found.log_posterior[:] = log_posterior(equations, found, precision, tau)
    return found


def best_noise(squares: Floats, rows: Floats) -> Floats:
    """The variance that maximises the density given the residuals' sum of squares."""
    prior = NOISE_PRIOR_SCALE**-2
    # 0 = prior s^2 + rows s - squares, without the cancellation where squares are small.
    noise: Floats = 2 * squares / (rows + np.sqrt(rows**2 + 4 * prior * squares))
    return noise


def log_posterior(equations: Equations, solution: Solution, precision: Floats, tau: float) -> Floats:
    """Stan's log density (n,), constants dropped as in `prophet.stan`'s sampling statements."""
    offset = _from_zero(equations, solution.smooth)
    squares = _squares(equations, solution.smooth, solution.delta)
    against: Floats = (
        equations.rows * np.log(solution.noise) / 2
        + solution.noise / NOISE_PRIOR_SCALE**2 / 2
        + squares / solution.noise / 2
        + (precision * offset**2).sum(axis=1) / 2
        + np.abs(solution.delta).sum(axis=1) / tau
    )
    return -against


def _from_zero(equations: Equations, smooth: Floats) -> Floats:
    """The coefficients as the priors see them: with the mean of y back in the offset."""
    offset = smooth.copy()
    offset[:, 0] += equations.centre
    return offset


def _squares(equations: Equations, smooth: Floats, delta: Floats) -> Floats:
    by_smooth = _times(equations.smooth, smooth) + _times(equations.cross, delta) - 2 * equations.smooth_y
    by_delta = _times(equations.cross.swapaxes(1, 2), smooth) + _times(equations.hinges, delta) - 2 * equations.hinges_y
    squares: Floats = np.maximum(equations.yy + (by_smooth * smooth).sum(axis=1) + (by_delta * delta).sum(axis=1), 0.0)
    return squares


def _times(matrices: Floats, vectors: Floats) -> Floats:
    products: Floats = matrices @ vectors[:, :, None]
    return products[:, :, 0]


def _coefficients(
    equations: Equations, precision: Floats, tau: float, noise: Floats, delta: Floats
) -> tuple[Floats, Floats, Bools]:
    """The maximum given the noise; `delta` is where to begin."""
    q = len(precision)
    ridged = equations.smooth.copy()
    ridged[:, np.arange(q), np.arange(q)] += noise[:, None] * precision
    target = equations.smooth_y.copy()
    target[:, 0] -= noise * precision[0] * equations.centre
    eliminated = _solved(ridged, np.concatenate([equations.cross, target[:, :, None]], axis=2))
    back = equations.cross.swapaxes(1, 2)
    reduced = equations.hinges - back @ eliminated[:, :, :-1]
    reduced_y = equations.hinges_y - _times(back, eliminated[:, :, -1])
    delta, ended = _lasso(reduced, reduced_y, noise / tau, delta)
    return eliminated[:, :, -1] - _times(eliminated[:, :, :-1], delta), delta, ended


def _solved(systems: Floats, right: Floats) -> Floats:
    """Solutions of (m, k, k) systems; where one is singular to the last bit, the shortest that comes nearest."""
    try:
        solutions = np.asarray(np.linalg.solve(systems, right), dtype=np.float64)
    except np.linalg.LinAlgError:
        pairs = zip(systems, right, strict=True)
        if len(systems) > 1:
            return np.concatenate([_solved(system[None], side[None]) for system, side in pairs])
        nearest: list[Floats] = [np.linalg.lstsq(*pair, rcond=None)[0] for pair in pairs]
        solutions = np.stack(nearest)
    return solutions


def _lasso(gram: Floats, target: Floats, penalty: Floats, delta: Floats) -> tuple[Floats, Bools]:
    """Minimise d'Gd / 2 - target'd + penalty |d|_1 for each template, beginning at `delta`."""
    templates, columns = target.shape
    delta = delta.copy()
    sign = np.sign(delta)
    ended = np.zeros(templates, dtype=bool)
    left = np.arange(templates)
    # A gradient is zero as far as its terms cancel.
    slack = penalty * _KKT_TOLERANCE + 1e-13 * np.abs(target).max(axis=1, initial=0.0)
    for _ in range(10 * columns + 50):
        signs = sign[left]
        goal = _on_active(gram, target, penalty, left, signs)
        current = delta[left]
        turned = (signs != 0) & (goal * signs < 0)
        clash = turned.any(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(turned, current / (current - goal), 1.0).min(axis=1)
        current = np.where(clash[:, None], current + share[:, None] * (goal - current), goal)
        # Those that reach zero first leave the set.
        current[turned & (np.abs(current) <= 1e-15 * np.abs(goal))] = 0.0
        leaving = turned & (current * signs <= 0)
        current[leaving] = 0.0
        signs = np.where(leaving, 0.0, signs)
        gradient = target[left] - _times(gram[left], current)
        excess = np.where(signs == 0, np.abs(gradient) - penalty[left, None], -np.inf)
        worst = excess.argmax(axis=1)
        rows = np.arange(len(left))
        enters = ~clash & (excess[rows, worst] > slack[left])
        signs[rows[enters], worst[enters]] = np.sign(gradient[rows[enters], worst[enters]])
        delta[left], sign[left] = current, signs
        done = ~clash & ~enters
        ended[left[done]] = True
        left = left[~done]
        if not len(left):
            break
    return delta, ended


def _on_active(gram: Floats, target: Floats, penalty: Floats, left: Ints, signs: Floats) -> Floats:
    """(m, S) the stationary point on each template's active set, zero off it."""
    counts = (signs != 0).sum(axis=1)
    goal = np.zeros(signs.shape)
    # Sets of one size are solved together: a padded system would differ in its last bits with its company.
    for count in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == count)
        active = np.nonzero(signs[rows])[1].reshape(len(rows), count)
        of = left[rows]
        systems = gram[of[:, None, None], active[:, :, None], active[:, None, :]]
        # Nearly dependent hinges (more of them than days) still give a finite answer.
        diagonal = np.arange(count)
        systems[:, diagonal, diagonal] *= 1 + 1e-13
        right = target[of[:, None], active] - penalty[of, None] * signs[rows[:, None], active]
        goal[rows[:, None], active] = _solved(systems, right[:, :, None])[:, :, 0]
    return goal
