"""Which arm of a template is best, how surely, and what is lost by another: exact, vectorised over templates.

An arm's rate has a Beta law. P(best) is the integral of an arm's density times the other arms' distribution functions,
E[max] that of the rate against the density of the largest, both on the logit axis (logit_quadrature.py). The absolute
error is below 1e-6 for 2 to 20 arms and parameters from 0.1 to 1e9 in any mixture: the masses, which are known to be 1,
are looked at, and templates where they are not have their panels halved.

Minimising is the mirror of maximising: of arms whose rate should be small the complement should be large, so alpha and
beta change places and everything below speaks of the complement.

Belongs here: probabilities and expectations of Beta arms, pure. Does not belong here: where posteriors come from,
shares (shares.py), what to do about it (decisions.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from assets.selection.logit_quadrature import (
    LogitBetas,
    Panels,
    cut,
    distribution,
    halved,
    panel_nodes,
    products_of_others,
)
from assets.selection.value_remaining import value_remaining
from storage.errors import TidemarkError

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

SMALLEST_PARAMETER, LARGEST_PARAMETER = 0.1, 1e12
NO_ARM = -1
# Equal arms come out alike to this many decimals; beyond it is rounding, which should choose nothing.
TIE_DIGITS = 12
_CLOSE = 1e-10
_HALVINGS = 4
# A block's arrays of values at nodes fit into a processor's cache.
_BLOCK_ELEMENTS = 200_000


class ArmsError(TidemarkError):
    """Posteriors, incumbents or costs that can't be: the message names template, arm, field and value."""


@dataclass(frozen=True)
class Best:
    """What the posteriors say of each template; arrays (templates, arms) are NaN off the mask.

    Attributes:
        p_best: the probability of having the best rate; sums to 1 over a template's arms.
        best: the arm that is most probably best, on ties that of the better mean, then the first; -1 without arms.
        expected_best: E[max], the expectation of the best arm's rate (of the least rate when minimising), (templates,).
        expected_loss: E[max - rate] of each arm (E[rate - min] when minimising), in units of the rate.
        p_worse: the probability that an arm's rate is worse than the incumbent's; 0 for the incumbent, NaN without one.
        value_remaining: the 95 % quantile of (max - rate of `best`) / rate of `best`, (templates,): value_remaining.py.
    """

    p_best: Floats
    best: Indices
    expected_best: Floats
    expected_loss: Floats
    p_worse: Floats
    value_remaining: Floats


def best(
    alpha: npt.ArrayLike,
    beta: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    *,
    incumbent: npt.ArrayLike | None = None,
    minimise: bool = False,
) -> Best:
    """All that is said of the arms of each template.

    Args:
        alpha: first parameters of the posteriors, shape (templates, arms), from 0.1.
        beta: second parameters, same shape.
        mask: which arms exist, same shape; all by default. Parameters of arms that don't exist are ignored.
        incumbent: the index of the arm in use, shape (templates,), -1 for none; none by default.
        minimise: whether the smallest rate is the best.

    Raises:
        ArmsError: the shapes differ, a parameter is out of bounds, or an incumbent is no arm of its template.
    """
    a, b, exists = _checked(alpha, beta, mask)
    in_use = _checked_incumbent(incumbent, exists)
    if minimise:
        a, b = b, a
    shape = exists.shape
    found = Best(
        p_best=np.full(shape, np.nan),
        best=np.full(shape[0], NO_ARM),
        expected_best=np.full(shape[0], np.nan),
        expected_loss=np.full(shape, np.nan),
        p_worse=np.full(shape, np.nan),
        value_remaining=np.full(shape[0], np.nan),
    )
    for rows in _blocks(exists):
        chosen = exists[rows]
        here = np.arange(len(rows))
        first, second = _packed(a[rows], chosen), _packed(b[rows], chosen)
        none = in_use[rows] == NO_ARM
        # Packing shifts arms to the left by those that don't exist before them.
        block = _block(first, second, np.where(none, 0, chosen.cumsum(axis=1)[here, in_use[rows]] - 1))
        mean = first / (first + second)
        leader = np.lexsort((-mean, -np.round(block.p_best, TIE_DIGITS)), axis=0)[0]
        found.p_best[rows] = _spread(block.p_best, chosen)
        found.best[rows] = np.nonzero(chosen)[1].reshape(len(rows), -1)[here, leader]
        found.expected_best[rows] = 1 - block.expected_best if minimise else block.expected_best
        found.expected_loss[rows] = _spread(np.maximum(block.expected_best - mean, 0.0), chosen)
        found.p_worse[rows] = _spread(np.where(none, np.nan, block.p_worse), chosen)
        found.value_remaining[rows] = value_remaining(first, second, leader, block.p_best[leader, here])
    return found


def probability_best(alpha: npt.ArrayLike, beta: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> Floats:
    """P(best) alone, shape (templates, arms), NaN off the mask.

    Raises:
        ArmsError: as `best`.
    """
    a, b, exists = _checked(alpha, beta, mask)
    p_best = np.full(exists.shape, np.nan)
    for rows in _blocks(exists):
        chosen = exists[rows]
        nobody = np.zeros(len(rows), dtype=np.intp)
        p_best[rows] = _spread(_block(_packed(a[rows], chosen), _packed(b[rows], chosen), nobody).p_best, chosen)
    return p_best


def cheapest_within(
    expected_loss: npt.ArrayLike, cost: npt.ArrayLike, mask: npt.ArrayLike, tolerance: float
) -> Indices:
    """The cheapest arm of each template whose expected loss is within the tolerance, (templates,); -1 without arms.

    Expected loss and not the difference of means: an arm about which little is known may look as good as the best, but
    what it may lose against it is in its loss. The arm of the least loss is always within. Of equal costs, and if no
    cost is known, the one of the lesser loss, then the first.

    Args:
        expected_loss: from `best`, (templates, arms).
        cost: mean cost of each arm, same shape; NaN if unknown: then it is no candidate while another's is known.
        mask: which arms exist, same shape.
        tolerance: the loss that is accepted for a lower cost, in units of the rate.

    Raises:
        ArmsError: the shapes differ, a cost is negative or infinite, or the tolerance is not in [0, 1].
    """
    exists = np.asarray(mask, dtype=bool)
    loss = np.where(exists, np.asarray(expected_loss, dtype=float), np.inf)
    price = np.asarray(cost, dtype=float)
    if loss.shape != price.shape or loss.shape != exists.shape:
        raise ArmsError(
            f"expected loss, cost and mask must share one (templates, arms) shape: {loss.shape}, {price.shape}"
        )
    if not 0 <= tolerance <= 1:
        raise ArmsError(f"tolerance {tolerance} is impossible: it is a difference of rates, from 0 to 1.")
    _refuse(
        exists & ((price < 0) | np.isinf(price)), price, "cost", "costs are finite and not negative, or unknown (NaN)"
    )
    if not loss.size:
        return np.full(len(loss), NO_ARM)
    least = loss.min(axis=1, keepdims=True)
    candidate = exists & (loss <= np.maximum(tolerance, least))
    price = np.where(candidate & ~np.isnan(price), price, np.inf)
    order = np.lexsort((loss, price, ~candidate), axis=1)
    return np.where(exists.any(axis=1), order[:, 0], NO_ARM)


@dataclass(frozen=True)
class _Block:
    """Results of templates with equally many arms, arms first; `error` is by how much masses that are 1 were missed."""

    p_best: Floats
    expected_best: Floats
    p_worse: Floats
    error: Floats


def _blocks(exists: Mask) -> Iterator[Indices]:
    """Rows of templates with equally many arms, as many as are computed at once."""
    arms = exists.sum(axis=1)
    for count in np.unique(arms[arms > 0]):
        rows = np.flatnonzero(arms == count)
        step = max(1, int(_BLOCK_ELEMENTS // (panel_nodes(count) * count)))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]


def _packed(parameter: Floats, chosen: Mask) -> Floats:
    """The existing arms' parameters of templates with equally many of them, arms first."""
    return np.ascontiguousarray(parameter[chosen].reshape(len(chosen), -1).T)


def _spread(values: Floats, chosen: Mask) -> Floats:
    """The inverse of packing, NaN where there is no arm."""
    spread = np.full(chosen.shape, np.nan)
    spread[chosen] = values.T.ravel()
    return spread


def _block(a: Floats, b: Floats, incumbent: Indices) -> _Block:
    laws = LogitBetas.of(a, b)
    return _integrated(laws, laws.edges(), incumbent, _HALVINGS)


def _integrated(laws: LogitBetas, edges: Floats, incumbent: Indices, halvings: int) -> _Block:
    """The integrals over panels between the edges, and over finer ones for templates where masses are missed."""
    result = _integrals(laws, cut(edges), incumbent)
    rough = np.flatnonzero(result.error > _CLOSE)
    if len(rough) and halvings:
        finer = _integrated(laws.of_templates(rough), halved(edges[rough]), incumbent[rough], halvings - 1)
        result.p_best[:, rough], result.p_worse[:, rough] = finer.p_best, finer.p_worse
        result.expected_best[rough] = finer.expected_best
    return result


def _integrals(laws: LogitBetas, panels: Panels, incumbent: Indices) -> _Block:
    density = laws.density(panels.nodes)
    below, mass = distribution(density, panels)
    density *= panels.weights
    p_best = np.empty(mass.shape)
    largest = np.zeros(panels.nodes.shape)
    for arm, others_below in enumerate(products_of_others(below)):
        as_best = others_below * density[arm]
        largest += as_best
        p_best[arm] = as_best.sum(axis=(1, 2))
    total = p_best.sum(axis=0)
    largest *= special.expit(panels.nodes)
    templates = np.arange(len(incumbent))
    p_worse = np.einsum("atpn,tpn->at", below, density[incumbent, templates])
    p_worse[incumbent, templates] = 0.0
    return _Block(
        p_best=np.maximum(p_best, 0.0) / total,
        expected_best=largest.sum(axis=(1, 2)) / total,
        p_worse=np.clip(p_worse, 0.0, 1.0),
        error=np.maximum(np.abs(total - 1), np.abs(mass - 1).max(axis=0)),
    )


def _checked(alpha: npt.ArrayLike, beta: npt.ArrayLike, mask: npt.ArrayLike | None) -> tuple[Floats, Floats, Mask]:
    a, b = np.asarray(alpha, dtype=float), np.asarray(beta, dtype=float)
    exists = np.ones(a.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if a.ndim != 2 or a.shape != b.shape or a.shape != exists.shape:  # noqa: PLR2004
        raise ArmsError(
            f"alpha, beta and mask must share one (templates, arms) shape: {a.shape}, {b.shape}, {exists.shape}"
        )
    for name, parameter in (("alpha", a), ("beta", b)):
        within = (parameter >= SMALLEST_PARAMETER) & (parameter <= LARGEST_PARAMETER)
        bounds = f"a posterior's parameters are from {SMALLEST_PARAMETER} to {LARGEST_PARAMETER:g}"
        _refuse(exists & ~within, parameter, name, bounds)
    return a, b, exists


def _checked_incumbent(incumbent: npt.ArrayLike | None, exists: Mask) -> Indices:
    if incumbent is None:
        return np.full(len(exists), NO_ARM)
    in_use = np.asarray(incumbent)
    if in_use.shape != (len(exists),) or in_use.dtype.kind not in "iu":
        raise ArmsError(f"incumbent must be {len(exists)} whole numbers, one a template: {in_use.dtype} {in_use.shape}")
    for template in np.flatnonzero(in_use != NO_ARM):
        arm = int(in_use[template])
        if not (0 <= arm < exists.shape[1] and exists[template, arm]):
            raise ArmsError(
                f"incumbent {arm} of template {template} is no arm of it: name one that exists, or {NO_ARM} for none."
            )
    return in_use.astype(np.intp)


def _refuse(wrong: Mask, values: Floats, name: str, rule: str) -> None:
    if wrong.any():
        template, arm = (int(index) for index in np.argwhere(wrong)[0])
        raise ArmsError(f"{name} {values[template, arm]} of template {template}, arm {arm} is impossible: {rule}.")
