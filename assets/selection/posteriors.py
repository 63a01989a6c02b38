"""Posteriors of success rates, and the probability that an extractor is its template's best; exact, vectorised.

Belongs here: the statistics of (templates, arms) tables of counts, pure. Does not belong here: counting feedback (dbt),
choosing an extractor (recommend.py), tables of the database (assets.py).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from storage.errors import TidemarkError

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CREDIBLE = 0.95
PRIOR = 1.0  # Beta(1, 1): every success rate equally likely before the first feedback
NODES = 8
# Panels of the quadrature end at these tail probabilities of every arm: narrow and wide posteriors of one template are
# then both cut finely enough, and nothing beyond the outermost matters at double precision.
TAILS = np.array([1e-15, 1e-9, 1e-5, 1e-2, 0.15])
_CHUNK_ELEMENTS = 2_000_000


class CountsError(TidemarkError):
    """Success and failure counts that can't be: negative, NaN, infinite or of different shapes."""


@dataclass(frozen=True)
class Posteriors:
    """Beta posteriors; every array has the shape (templates, arms), with NaN where the mask is False.

    `lower` and `upper` are the equal-tailed 95 % credible interval. `p_best` sums to 1 over a template's arms.
    """

    alpha: Floats
    beta: Floats
    mean: Floats
    lower: Floats
    upper: Floats
    p_best: Floats


def posteriors(successes: npt.ArrayLike, failures: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> Posteriors:
    """Posteriors Beta(1 + successes, 1 + failures) of every arm of every template.

    Args:
        successes: counts, shape (templates, arms).
        failures: counts, same shape.
        mask: which arms exist, same shape; all by default. Counts of arms that don't exist are ignored.

    Raises:
        CountsError: the shapes differ, or an existing arm's count is negative or not finite.
    """
    good, bad = np.asarray(successes, dtype=float), np.asarray(failures, dtype=float)
    exists = np.ones(good.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    _refuse_impossible(good, bad, exists)
    alpha, beta = np.where(exists, PRIOR + good, np.nan), np.where(exists, PRIOR + bad, np.nan)
    tail = (1 - CREDIBLE) / 2
    return Posteriors(
        alpha=alpha,
        beta=beta,
        mean=alpha / (alpha + beta),
        lower=special.betaincinv(alpha, beta, tail),
        upper=special.betainccinv(alpha, beta, tail),
        p_best=probability_best(alpha, beta, exists),
    )


def probability_best(alpha: Floats, beta: Floats, mask: Mask) -> Floats:
    """The probability that each arm's rate is the largest of its template, shape (templates, arms), NaN off the mask.

    P(best_i) is the integral of arm i's density times the other arms' distribution functions, taken over the logit of
    the rate by composite Gauss-Legendre quadrature with panels at every arm's quantiles.
    """
    result = np.full(alpha.shape, np.nan)
    arms = mask.sum(axis=1) if mask.size else np.zeros(len(alpha), dtype=int)
    for count in np.unique(arms[arms > 0]):
        rows = np.flatnonzero(arms == count)
        nodes = (2 * len(TAILS) + 1) * NODES * count
        step = max(1, int(_CHUNK_ELEMENTS // (nodes * count)))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            chosen = mask[part]
            packed = alpha[part][chosen].reshape(-1, count), beta[part][chosen].reshape(-1, count)
            block = np.full(chosen.shape, np.nan)
            block[chosen] = _packed_probability_best(*packed).ravel()
            result[part] = block
    return result


def _packed_probability_best(a: Floats, b: Floats) -> Floats:
    """P(best) of templates that all have the same number of arms, shape (templates, arms)."""
    if a.shape[1] == 1:
        return np.ones_like(a)
    z, weight = _grid(a, b)
    at, first, second = z[:, None, :], a[:, :, None], b[:, :, None]
    rate, complement = special.expit(at), special.expit(-at)
    # The mirrored form keeps all digits where the rate is next to 1.
    below = np.where(
        at < 0, special.betainc(first, second, np.minimum(rate, 0.5)), special.betaincc(second, first, complement)
    )
    log_density = first * special.log_expit(at) + second * special.log_expit(-at) - special.betaln(first, second)
    mass = np.exp(log_density) * weight[:, None, :]
    mass /= mass.sum(axis=2, keepdims=True)
    best = (mass * _product_of_others(below)).sum(axis=2)
    return np.asarray(best / best.sum(axis=1, keepdims=True))


def _grid(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Nodes on the logit axis and their weights, each of shape (templates, nodes)."""
    low = special.logit(special.betaincinv(a[..., None], b[..., None], TAILS))
    high = -special.logit(special.betaincinv(b[..., None], a[..., None], TAILS))
    middle = special.logit(special.betaincinv(a, b, 0.5))[..., None]
    edges = np.sort(np.concatenate([low, middle, high], axis=2).reshape(len(a), -1), axis=1)
    points, weights = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(edges, axis=1)[..., None] / 2
    centre = (edges[:, 1:, None] + edges[:, :-1, None]) / 2
    return (centre + half * points).reshape(len(a), -1), (half * weights).reshape(len(a), -1)


def _product_of_others(below: Floats) -> Floats:
    """For each arm the product over all other arms, without dividing by what may be 0."""
    ones = np.ones_like(below[:, :1])
    before = np.cumprod(np.concatenate([ones, below[:, :-1]], axis=1), axis=1)
    after = np.cumprod(np.concatenate([ones, below[:, :0:-1]], axis=1), axis=1)[:, ::-1]
    return np.asarray(before * after)


def _refuse_impossible(good: Floats, bad: Floats, mask: Mask) -> None:
    if good.ndim != 2 or good.shape != bad.shape or good.shape != mask.shape:  # noqa: PLR2004
        raise CountsError(f"counts and mask must share one (templates, arms) shape: {good.shape}, {bad.shape}")
    for name, counts in (("success", good), ("failure", bad)):
        wrong = mask & ~(np.isfinite(counts) & (counts >= 0))
        if wrong.any():
            template, arm = (int(index) for index in np.argwhere(wrong)[0])
            raise CountsError(
                f"{name} count {counts[template, arm]} of template {template}, arm {arm} is impossible: "
                "counts are finite and not negative. Check marts.extractor_performance."
            )
