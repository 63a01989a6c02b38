"""Beta laws on the logit axis: where their mass lies, their densities and distribution functions at quadrature nodes.

The logit of a Beta(a, b) variable has the log-concave density
exp(a z - (a + b) log(1 + e^z)) / B(a, b): no end points, no poles, near a normal curve for large counts and with
exponential tails of rates a and b. Templates are cut into panels that end where any of their arms' densities has
fallen to given fractions of its peak, so that narrow and wide arms of one template are resolved alike. Densities are
computed at the Gauss-Legendre nodes of the panels only; the distribution functions follow from them by integrating
the interpolating polynomial inside each panel (the cumulative Gauss-Legendre matrix), which costs a matrix product
where an incomplete beta function would cost a series.

Arrays are arms first: parameters (arms, templates), values at nodes (arms, templates, panels, nodes).

Belongs here: densities, panels, integration. Does not belong here: what is integrated (best.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

NODES = 10
# Panels end where a density is exp(-level) of its peak: of a normal law at 1.6, 3.3, 5.1 and 7.4 deviations.
LEVELS = np.array([1.3, 5.4, 13.0, 27.0])
_EDGE_STEPS = 6
_STIRLING_FROM = 20.0


@dataclass(frozen=True)
class Panels:
    """Panels of each template: `nodes` and `weights` of shape (templates, panels, nodes), `half` their half widths."""

    nodes: Floats
    weights: Floats
    half: Floats


@dataclass(frozen=True)
class LogitBetas:
    """Laws of the logits of Beta variables; every array has the shape (arms, templates).

    Densities are told from the distance d to the mode log(a/b), in the direction of the larger parameter's tail:
    log f = m d - n log1p(m/n expm1(d)) - log_scale with m = min(a, b), n = a + b. Nothing cancels in it, whatever the
    size of a and b.
    """

    mode: Floats
    direction: Floats
    smaller: Floats
    total: Floats
    log_scale: Floats

    @classmethod
    def of(cls, alpha: Floats, beta: Floats) -> "LogitBetas":
        """The laws of Beta(alpha, beta), both of shape (arms, templates) and positive."""
        total = alpha + beta
        log_scale = (
            0.5 * np.log(2 * np.pi * total / alpha / beta)
            + _stirling_rest(alpha)
            + _stirling_rest(beta)
            - _stirling_rest(total)
        )
        return cls(
            mode=np.log(alpha / beta),
            direction=np.where(alpha <= beta, 1.0, -1.0),
            smaller=np.minimum(alpha, beta),
            total=total,
            log_scale=log_scale,
        )

    def density(self, at: Floats) -> Floats:
        """Densities at the nodes `at`, shape (templates, panels, nodes)."""
        beside = (..., None, None)
        distance = at - self.mode[beside]
        distance *= self.direction[beside]
        value = np.expm1(distance)
        value *= (self.smaller / self.total)[beside]
        np.log1p(value, out=value)
        value *= -self.total[beside]
        distance *= self.smaller[beside]
        value += distance
        value -= self.log_scale[beside]
        return np.asarray(np.exp(value, out=value))

    def edges(self) -> Floats:
        """Where arms' densities have fallen to exp(-LEVELS) of their peaks, and the peaks: (templates, edges)."""
        edges = np.concatenate([self._falls(-1.0), self.mode[..., None], self._falls(1.0)], axis=-1)
        return np.moveaxis(edges, 0, 1).reshape(edges.shape[1], -1)

    def of_templates(self, rows: npt.NDArray[np.intp]) -> "LogitBetas":
        """The laws of some templates."""
        return LogitBetas(
            self.mode[:, rows],
            self.direction[:, rows],
            self.smaller[:, rows],
            self.total[:, rows],
            self.log_scale[:, rows],
        )

    def _falls(self, side: float) -> Floats:
        """By Newton's method on the logarithm of the fall as a function of the logarithm of the distance.

        There a normal curve, an exponential tail and a doubly exponential one are all close to straight. The places
        need not be exact: they cut panels.
        """
        smaller, total = self.smaller[..., None], self.total[..., None]
        ratio = smaller / total
        distance = np.sqrt(2 * LEVELS / (smaller * (1 - ratio)))
        for _ in range(_EDGE_STEPS):
            signed = side * distance
            odds = ratio * np.expm1(signed)
            fall = total * np.log1p(odds) - smaller * signed
            slope = total * (odds + ratio) / (1 + odds) - smaller
            distance = distance * np.exp(-np.log(fall / LEVELS) * fall / (slope * signed))
        return self.mode[..., None] + (side * self.direction)[..., None] * distance


def panel_nodes(arms: int) -> int:
    """Nodes of a template with so many arms."""
    return (arms * (2 * len(LEVELS) + 1) - 1) * NODES


def cut(edges: Floats) -> Panels:
    """Panels between the edges of each template, shape (templates, edges), in any order.

    Panels that have no width in any template are left out.
    """
    ordered = np.sort(edges, axis=-1)
    half = np.diff(ordered, axis=-1) / 2
    wide = half.any(axis=0)
    half = half[:, wide]
    centre = ordered[:, :-1][:, wide] + half
    nodes = centre[..., None] + half[..., None] * _POINTS
    return Panels(nodes, half[..., None] * _WEIGHTS, half)


def halved(edges: Floats) -> Floats:
    """The edges with the middle of every panel among them."""
    ordered = np.sort(edges, axis=-1)
    return np.concatenate([ordered, (ordered[:, :-1] + ordered[:, 1:]) / 2], axis=-1)


def distribution(density: Floats, panels: Panels) -> tuple[Floats, Floats]:
    """Distribution functions at the nodes, and the mass in all panels, shape (arms, templates).

    Mass left of the first panel is left out.
    """
    inside = density @ _CUMULATIVE
    inside *= panels.half[..., None]
    mass = inside[..., -1]
    reached = np.cumsum(mass, axis=-1)
    inside += (reached - mass)[..., None]
    return inside[..., :-1], reached[..., -1]


def products_of_others(below: Floats) -> Iterator[Floats]:
    """For each arm the product over all other arms; nothing is divided by what may be 0."""
    after = [np.ones_like(below[0])]
    for arm in below[:0:-1]:
        after.append(after[-1] * arm)
    before = np.ones_like(below[0])
    for arm in below:
        yield before * after.pop()
        before *= arm


def _cumulative() -> tuple[Floats, Floats, Floats]:
    """Gauss-Legendre points and weights, and the matrix (nodes, nodes + 1) from values to integrals up to each node.

    Its last column integrates over the whole panel.
    """
    points, weights = np.polynomial.legendre.leggauss(NODES)
    basis = np.polynomial.legendre.legvander(points, NODES - 1)
    coefficients = basis.T * weights * (np.arange(NODES) + 0.5)[:, None]
    integrals = np.polynomial.legendre.legint(coefficients, lbnd=-1, axis=0)
    matrix = np.polynomial.legendre.legvander(points, NODES) @ integrals
    return points, weights, np.column_stack([matrix.T, weights])


def _stirling_rest(x: Floats) -> Floats:
    """What log Gamma(x) adds to Stirling's (x - 1/2) log x - x + log(2 pi)/2."""
    small = np.minimum(x, _STIRLING_FROM)
    direct = special.gammaln(small) - ((small - 0.5) * np.log(small) - small + 0.5 * np.log(2 * np.pi))
    inverse = 1 / np.maximum(x, _STIRLING_FROM)
    square = inverse * inverse
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
    return np.where(x < _STIRLING_FROM, direct, series)


_POINTS, _WEIGHTS, _CUMULATIVE = _cumulative()
