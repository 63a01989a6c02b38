"""Posteriors of success rates from (templates, arms) tables of counts, pure.

Belongs here: from counts to Beta laws and their intervals. Does not belong here: which arm is best (best.py), counting
feedback (dbt), choosing an extractor (recommend.py), tables of the database (tables.py).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from assets.selection.best import probability_best
from storage.errors import TidemarkError

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CREDIBLE = 0.95
PRIOR = 1.0  # Beta(1, 1): every success rate equally likely before the first feedback


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
