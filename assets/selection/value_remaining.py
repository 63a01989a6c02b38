"""How much a template's best arm may still be better than the one that is taken for the best: when to stop trying.

Scott (2015, "Multi-armed bandit experiments in the online service economy", Appl. Stochastic Models Bus. Ind. 31):
with `*` the arm that is most probably best, the value remaining in an experiment is V = (max - theta*) / theta*, and
the experiment may end when V's 95 % quantile is small. Here
P(V <= x) = P(every other theta <= (1 + x) theta*) = 1 - integral of g(z) F*(z - log(1 + x (1 + e^z))) dz,
with g the density of the largest of the others' logits and F* the distribution function of the logit of theta*:
the logit of theta / (1 + x) is z - log(1 + x (1 + e^z)). The quantile is found by Newton's method on the normal deviate
of P as a function of log(1 + x), which is nearly straight, inside a bracket that only shrinks.

Belongs here: that quantile. Does not belong here: P(best) (best.py), whether it is small enough (decisions.py).
"""

import numpy as np
import numpy.typing as npt
from scipy import special

from assets.selection.logit_quadrature import LogitBetas, cut, distribution, products_of_others

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

QUANTILE = 0.95
_STEPS = 60
# A last step of Newton's method from so near misses by about the square.
_CLOSE = 1e-4
# Where (1 + x) theta* nears 1 its logit bends within a few units: panels end there too.
_BEND = np.array([-6.0, -3.0, -1.0, 1.0, 3.0, 6.0, 10.0, 16.0, 24.0])


def value_remaining(alpha: Floats, beta: Floats, leader: Indices, p_leader: Floats) -> Floats:
    """The 95 % quantile of V for templates with equally many arms, (templates,).

    Args:
        alpha: shape (arms, templates).
        beta: same shape.
        leader: the arm `*` of each template.
        p_leader: its probability of being best: from 0.95 the quantile is 0.
    """
    result = np.zeros(len(leader))
    rows = np.flatnonzero(p_leader < QUANTILE)
    if not len(rows):
        return result
    a, b, here = alpha[:, rows], beta[:, rows], np.arange(len(rows))
    first = leader[rows]
    rest = np.arange(len(a) - 1)[:, None]
    rest = rest + (rest >= first)
    others = LogitBetas.of(a[rest, here], b[rest, here])
    taken = LogitBetas.of(a[first, here][None], b[first, here][None])
    low = np.zeros(len(rows))
    # theta* exceeds its 5 % quantile with probability 0.95, and (1 + x) theta* then exceeds 1.
    high = -np.log(special.betaincinv(a[first, here], b[first, here], 1 - QUANTILE))
    at = np.clip(_normal_guess(a, b, first, rest), 0.0, high)
    active = here
    for _ in range(_STEPS):
        p, slope = _probability(taken.of_templates(active), others.of_templates(active), at[active])
        low[active] = np.where(p < QUANTILE, at[active], low[active])
        high[active] = np.where(p < QUANTILE, high[active], at[active])
        with np.errstate(divide="ignore", invalid="ignore"):
            deviate = special.ndtri(p)
            target = at[active] - (deviate - special.ndtri(QUANTILE)) * _normal_density(deviate) / slope
        inside = (target >= low[active]) & (target <= high[active])
        far = np.abs(p - QUANTILE) > _CLOSE
        elsewhere = np.where(far, (low[active] + high[active]) / 2, at[active])
        at[active] = np.where(inside, target, elsewhere)
        active = active[far]
        if not len(active):
            break
    result[rows] = np.expm1(at)
    return result


def _probability(taken: LogitBetas, others: LogitBetas, log_factor: Floats) -> tuple[Floats, Floats]:
    """P(V <= x) and its derivative by log(1 + x), both (templates,), at `log_factor` = log(1 + x)."""
    panels = cut(_edges(taken, others, log_factor))
    x = np.expm1(log_factor)[:, None, None]
    with_one = 1 + np.exp(panels.nodes)
    stretch = 1 + x * with_one
    density = taken.density(panels.nodes - np.log(stretch))
    density *= (1 + x) / stretch
    below, _ = distribution(density, panels)
    of_others = others.density(panels.nodes)
    below_others, _ = distribution(of_others, panels)
    largest = np.zeros(panels.nodes.shape)
    for arm, rest in enumerate(products_of_others(below_others)):
        largest += rest * of_others[arm]
    largest *= panels.weights
    total = largest.sum(axis=(1, 2))
    p = 1 - (largest * below[0]).sum(axis=(1, 2)) / total
    return np.clip(p, 0.0, 1.0), (largest * density[0] * with_one).sum(axis=(1, 2)) / total


def _edges(taken: LogitBetas, others: LogitBetas, log_factor: Floats) -> Floats:
    """Edges of the others' laws, and of the law of (1 + x) theta* as far up as the others reach: (templates, edges)."""
    edges, own, factor = others.edges(), taken.edges(), log_factor[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = own + factor - np.log1p(-np.expm1(factor) * np.exp(own))
        bend = _BEND - np.log(np.expm1(factor))
    highest = edges.max(axis=1, keepdims=True)
    moved = np.concatenate([np.where(np.isnan(moved), highest, moved), bend], axis=1)
    return np.concatenate([edges, np.minimum(moved, highest)], axis=1)


def _normal_guess(a: Floats, b: Floats, leader: Indices, others: Indices) -> Floats:
    """log(1 + x) if logarithms of rates were normal and only the best of the others counted."""
    here = np.arange(a.shape[1])
    mean = special.digamma(a) - special.digamma(a + b)
    variance = special.polygamma(1, a) - special.polygamma(1, a + b)
    spread = np.sqrt(variance[others, here] + variance[leader, here])
    return np.asarray((mean[others, here] - mean[leader, here] + special.ndtri(QUANTILE) * spread).max(axis=0))


def _normal_density(deviate: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * deviate * deviate) / np.sqrt(2 * np.pi))
