"""Priors: what the rest of a tenant's feedback says of an arm before its own does.

Belongs here: empirical Bayes over templates and arms. Does not belong here: an arm's own evidence (evidence.py), which
never enters its own prior, by exact subtraction and not by trust in its smallness.

The logit of a rate is a tenant's mean + an arm's effect + a template's effect + their interaction, each normal
(Efron & Morris 1975; variances by moments, as in Rao 1973 and DerSimonian & Laird 1986, because moments are sums and
a template leaves a sum by subtraction). For arm a of template t, mean, arm's effect and all variances come from the
other templates; the template's effect, how hard its documents are, from the template's other arms. Mean and variance
of the rate under that normal law make a Beta, whose weight is capped.

A tenant with fewer than three templates beside falls back to a Beta by moments of the rates of all its other cells,
one with fewer than three such cells to Beta(1, 1).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from assets.selection.evidence import Floats, Integers, Mask

UNIFORM = 1.0
# The most that others may weigh, in feedbacks: 40 are a standard deviation of 0.06 at a rate of 0.8. Few donors say
# little of how far templates lie apart: each adds two.
WEIGHT_CAP = 40.0
WEIGHT_PER_DONOR = 2.0
MIN_DONORS = 3
_LEAST_WEIGHT = 1.5
_LEAST_PARAMETER = 0.5
_DONOR_COUNT = 3.0  # feedbacks from which a cell is a donor
_WORKING_VARIANCE = 0.25  # of the interaction, for weights alone: estimates are unbiased whatever it is
_CELL_SOFTENING = 8.0
_GOOD_ARMS = 0.1
_NO_RANKING, _RANKING = 0.25, 0.75  # reliabilities at which a prior begins to be used, and is used whole
_POINTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_TINY = 1e-12

FROM_UNIFORM, FROM_BETA, FROM_CORRELATED = 0, 1, 2


@dataclass(frozen=True)
class Priors:
    """Beta priors, shape (templates, arms), NaN off the mask; `source` is one of the FROM_ constants."""

    alpha: Floats
    beta: Floats
    source: Integers


def priors(successes: Floats, failures: Floats, mask: Mask, groups: npt.ArrayLike, arm_ids: npt.ArrayLike) -> Priors:
    """The prior of every arm from everything its group knows but the arm's own evidence.

    Args:
        successes: pseudo-counts that still count, shape (templates, arms).
        failures: likewise.
        mask: which arms exist, likewise.
        groups: the tenant of each template, shape (templates,); templates of different groups never meet.
        arm_ids: which extractor an arm is, as whole numbers, shape (templates, arms): the same on all templates.
    """
    shape = mask.shape
    alpha, beta = np.full(shape, UNIFORM), np.full(shape, UNIFORM)
    source = np.full(shape, FROM_UNIFORM, dtype=np.int64)
    donor = mask & (successes + failures >= _DONOR_COUNT)
    ids = np.asarray(arm_ids, dtype=np.int64)
    for rows in _tenants(np.asarray(groups), donor):
        found = _of_tenant(successes[rows], failures[rows], donor[rows], ids[rows])
        alpha[rows], beta[rows], source[rows] = found.alpha, found.beta, found.source
    return Priors(np.where(mask, alpha, np.nan), np.where(mask, beta, np.nan), np.where(mask, source, FROM_UNIFORM))


def _tenants(groups: npt.NDArray[np.generic], donor: Mask) -> list[Integers]:
    """Row numbers of every group that has donors enough for anything."""
    if not len(groups):
        return []
    _, group = np.unique(groups, return_inverse=True)
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    donors = np.bincount(group, donor.sum(axis=1))
    return [rows for rows, count in zip(parts, donors, strict=True) if count >= MIN_DONORS]


def _of_tenant(good: Floats, bad: Floats, donor: Mask, ids: Integers) -> Priors:
    mean, weight, enough = _beta_by_moments(good, bad, donor)
    source = np.where(enough, FROM_BETA, FROM_UNIFORM)
    ranking = np.zeros(good.shape)
    known = np.asarray(donor.any(axis=1))
    templates = int(known.sum())
    if templates > MIN_DONORS - 1:
        other = templates - known[:, None].astype(int)
        correlated_mean, correlated_weight, reliability = _correlated(good, bad, donor, ids)
        cap = np.minimum(WEIGHT_CAP, WEIGHT_PER_DONOR * other)
        fits = (other >= MIN_DONORS) & np.isfinite(correlated_mean) & np.isfinite(correlated_weight)
        mean = np.where(fits, correlated_mean, mean)
        weight = np.where(fits, np.clip(correlated_weight, _LEAST_WEIGHT, cap), weight)
        source = np.where(fits, FROM_CORRELATED, source)
        ranking = np.where(fits, np.clip((reliability[:, None] - _NO_RANKING) / (_RANKING - _NO_RANKING), 0, 1), 0)
    least = _LEAST_PARAMETER / weight
    mean = np.clip(mean, least, 1 - least)
    alpha, beta = weight * mean, weight * (1 - mean)
    use = np.where(source == FROM_UNIFORM, 0.0, np.maximum(ranking, _restraint(alpha, beta)))
    return Priors(UNIFORM + use * (alpha - UNIFORM), UNIFORM + use * (beta - UNIFORM), source)


def _restraint(alpha: Floats, beta: Floats) -> Floats:
    """How far a prior that can't rank arms is of use: 1 where it expects good arms to be rarer than Beta(1, 1) does.

    Thompson sampling explores more than is worth while. A true prior that merely says that most arms are good makes
    it explore more still: in simulation its regret is a tenth above that of Beta(1, 1), which is then put in its place.
    """
    rare = 1 - special.betaincinv(alpha, beta, 1 - _GOOD_ARMS)
    return np.asarray(np.clip(rare / _GOOD_ARMS - 1, 0.0, 1.0))


def _beta_by_moments(good: Floats, bad: Floats, donor: Mask) -> tuple[Floats, Floats, Mask]:
    """Mean and weight for every cell from all others, and where there are enough of them."""
    count = np.where(donor, good + bad, 1.0)
    rate = np.where(donor, good / count, 0.0)
    weight = np.where(donor, count / (count + _CELL_SOFTENING), 0.0)

    def others(values: Floats) -> Floats:
        return np.asarray(values.sum() - values)

    cells = others(donor.astype(float))
    total = np.maximum(others(weight), _TINY)
    mean = np.clip(others(weight * rate) / total, 0.0, 1.0)
    # Of a cell's spread, m(1-m)/n is its own error and the rest differences between cells.
    spread = np.maximum(others(weight * rate**2) / total - mean**2, 0.0) * cells / np.maximum(cells - 1, 1.0)
    noise = others(weight / count) / total
    variance = (spread - mean * (1 - mean) * noise) / np.maximum(1 - noise, 0.5)
    cap = np.minimum(WEIGHT_CAP, WEIGHT_PER_DONOR * np.maximum(cells, 1.0))
    found = mean * (1 - mean) / np.maximum(variance, _TINY) - 1
    return mean, np.clip(found, _LEAST_WEIGHT, cap), cells >= MIN_DONORS


def _correlated(good: Floats, bad: Floats, donor: Mask, ids: Integers) -> tuple[Floats, Floats, Floats]:
    """Mean and weight of every cell's prior under the module's model, NaN where it can't be fitted; and reliability.

    The reliability (templates,) is the share of what arms of a template differ by that their effects predict.
    """
    arms, column = np.unique(ids, return_inverse=True)
    column = column.reshape(ids.shape)
    logit = np.log((good + 0.5) / (bad + 0.5))
    error = 1 / (good + 0.5) + 1 / (bad + 0.5)
    weight = np.where(donor, 1 / (error + _WORKING_VARIANCE), 0.0)
    design = (column[..., None] == np.arange(len(arms))) * weight[..., None]  # (templates, cells, arms)
    with np.errstate(all="ignore"):
        interaction, effect, effect_error = _arm_effects(logit, error, weight, design)
        mean, spread, mean_error = _template_spread(logit, error, weight, design, effect, interaction)
        rows = np.arange(len(ids))[:, None]
        expected = mean[:, None] + effect[rows, column]
        variance = interaction[:, None] + effect_error[rows, column]
        # How hard the template is, by its other arms.
        precision = np.where(donor, 1 / (variance + error), 0.0)
        pull = precision * np.where(donor, logit - expected, 0.0)
        others = 1 / np.maximum(spread + mean_error, _TINY)[:, None] + precision.sum(axis=1, keepdims=True) - precision
        hardness = (pull.sum(axis=1, keepdims=True) - pull) / others
        predicted = effect.var(axis=1)
        reliability = np.nan_to_num(predicted / (predicted + interaction + effect_error.mean(axis=1)))
        return *_beta_moments(expected + hardness, variance + 1 / others), reliability


def _without_own(values: Floats) -> Floats:
    return np.asarray(values.sum(axis=0) - values)


def _arm_effects(logit: Floats, error: Floats, weight: Floats, design: Floats) -> tuple[Floats, Floats, Floats]:
    """From the other templates: the interaction's variance (templates,), arms' effects, their errors (templates, arms).

    Least squares within templates: a template's own effect cancels whatever arms were played on it.
    """
    total = np.maximum(weight.sum(axis=1), _TINY)
    by_arm = design.sum(axis=1)
    of_arm = (design * logit[..., None]).sum(axis=1)
    arms = by_arm.shape[1]
    normal = by_arm[:, :, None] * np.eye(arms) - by_arm[:, :, None] * by_arm[:, None, :] / total[:, None, None]
    weighted = (weight * logit).sum(axis=1)
    right = of_arm - by_arm * (weighted / total)[:, None]
    squares = (weight * logit**2).sum(axis=1) - weighted**2 / total
    share = weight - weight**2 / total[:, None]
    cells = (weight > 0).sum(axis=1)
    freedom = np.maximum(cells - 1, 0).astype(float)

    normal, right, squares = _without_own(normal), _without_own(right), _without_own(squares)
    share_sum, noise = _without_own(share.sum(axis=1)), _without_own((share * error).sum(axis=1))
    freedom = _without_own(freedom)
    played = _without_own((by_arm > 0).astype(float)) > 0
    played_arms = played.sum(axis=1)
    # Effects are known up to a constant: a weak pull to 0 sets it, and holds arms that nobody else played.
    inverse = np.linalg.inv(normal + 1e-6 * np.eye(arms))
    centred = np.eye(arms) - played[:, None, :] / np.maximum(played_arms, 1)[:, None, None]
    effect = (centred @ inverse @ right[..., None])[..., 0]
    left = freedom - (played_arms - 1)
    residual = squares - (right * effect).sum(axis=1)
    interaction = np.where(
        left > 0,
        np.maximum(residual * freedom / np.maximum(left, 1) - noise, 0.0) / np.maximum(share_sum, _TINY),
        np.where(freedom > 0, _WORKING_VARIANCE, 0.0),
    )
    # A variance estimated with few degrees of freedom is pulled to the working one.
    pull = 2.0
    interaction = np.where(
        freedom > 0, (interaction * np.maximum(left, 0) + pull * _WORKING_VARIANCE) / (np.maximum(left, 0) + pull), 0.0
    )
    scale = (noise + interaction * share_sum) / np.maximum(freedom, 1.0)
    own_error = np.einsum("tij,tjk,tik->ti", centred, inverse, centred) * scale[:, None]
    own_error = np.where(played, own_error, 0.0)
    between = (np.where(played, effect, 0.0) ** 2 - own_error).sum(axis=1) / np.maximum(played_arms - 1, 1)
    between = np.where(played_arms > 1, np.maximum(between, 0.0), 0.0)[:, None]
    kept = between / np.maximum(between + own_error, _TINY)
    return (
        interaction,
        np.where(played, effect * kept, 0.0),
        np.where(played, kept * own_error, np.maximum(between, _WORKING_VARIANCE * (played_arms > 0)[:, None])),
    )


def _template_spread(
    logit: Floats, error: Floats, weight: Floats, design: Floats, effect: Floats, interaction: Floats
) -> tuple[Floats, Floats, Floats]:
    """From the other templates: their mean, the variance of their effects and the mean's error, each (templates,)."""
    total = weight.sum(axis=1)
    present = total > 0
    safe = np.maximum(total, _TINY)
    part = design.sum(axis=1) / safe[:, None]  # a template's mean is this mixture of arms
    average = (weight * logit).sum(axis=1) / safe
    squared_part = (weight / safe[:, None]) ** 2
    own_noise = (squared_part * error).sum(axis=1)
    mix = squared_part.sum(axis=1)
    importance = np.where(present, 1 / (1 + own_noise), 0.0)

    def others(values: Floats) -> Floats:
        return _without_own(importance.reshape(-1, *[1] * (values.ndim - 1)) * values)

    count = np.maximum(_without_own(present.astype(float)), 1.0)
    weights = np.maximum(_without_own(importance), _TINY)
    mean = (others(average) - (others(part) * effect).sum(axis=1)) / weights
    squares = (
        others(average**2)
        - 2 * (others(average[:, None] * part) * effect).sum(axis=1)
        + np.einsum("ti,tij,tj->t", effect, others(part[:, :, None] * part[:, None, :]), effect)
        - mean**2 * weights
    )
    noise = (others(own_noise) + interaction * others(mix)) / weights
    spread = np.maximum(squares / weights * count / np.maximum(count - 1, 1.0) - noise, 0.0)
    return mean, spread, (spread + noise) / count


def _beta_moments(mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Mean and weight of the Beta with the mean and variance of a rate whose logit is normal."""
    rate = special.expit(mean[..., None] + np.sqrt(variance)[..., None] * _POINTS)
    chance = _WEIGHTS / _WEIGHTS.sum()
    first = (rate * chance).sum(axis=-1)
    second = ((rate - first[..., None]) ** 2 * chance).sum(axis=-1)
    return first, first * (1 - first) / np.maximum(second, _TINY) - 1
