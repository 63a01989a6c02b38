"""What would have been if another extractor had been used: off-policy estimates from logged propensities, vectorised.

All is computed from sums that add over days (dbt's `extractor_performance_daily`), never from single decisions. With
decisions i of a template, of which arm B was chosen in some, by its known propensity p, w = 1/p there and 0 elsewhere,
outcome r in [0, 1], N decisions in all, and m a guess at B's mean outcome that is not made of these weights:

- IPS (Horvitz & Thompson 1952): V = sum(w r) / N. Unbiased, and as unsteady as the weights are.
- SNIPS (Swaminathan & Joachims 2015, "The Self-Normalized Estimator for Counterfactual Learning"):
  V = sum(w r) / sum(w). Within the outcomes' range; its bias is of order 1/N.
- DR (Dudik, Langford & Li 2011, "Doubly Robust Policy Evaluation and Learning"): V = m + sum(w (r - m)) / N. Unbiased
  whatever m is, and the steadier the better m is.

Each is a mean of terms x_i (for SNIPS to first order: V + (N / sum(w)) w_i (r_i - V)), so its variance is
sum((x_i - V)^2) / (N (N - 1)), the delta method; the gain over what was done, the mean of x_i - r_i, has its own. That
m comes from the same decisions is left out of account: it matters to second order.

An arm's decisions are those in which it could have been chosen: all that name no eligible_extractors, and those that
name it among them. What was done and the gain are of the same decisions. Weights have mean 1 there; where theirs
differs, the arm could not be chosen in some decisions (it came later, it was left out unsaid), or propensities are
wrong.

Belongs here: the arithmetic. Does not belong here: which propensities can be used (dbt_project/macros/outcomes.sql).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from storage.errors import TidemarkError

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

INTERVAL_Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
LEAST_EFFECTIVE_SAMPLE_SIZE = 50
LARGEST_WEIGHT_SHARE = 0.1
# Of a mean weight that is 1, one in ten thousand lies further off than this many standard errors.
MOST_STANDARD_ERRORS_OFF = 4
_ROUNDING = 1e-6


class Impossible(NamedTuple):
    """A sum that no decisions can have: by the numbers of its template and arm, with its name, its value and why."""

    template: int
    arm: int
    field: str
    value: float
    why: str

    def __str__(self) -> str:
        return f"template {self.template}, arm {self.arm}: {self.field} is {self.value:g}: {self.why}"


class PolicyValueError(TidemarkError):
    """Sums that no decisions can have: negative, NaN, contradicting each other, or of different shapes.

    Attributes:
        impossible: the first such sum of each template that has one; none where shapes don't fit.
    """

    def __init__(self, message: str, impossible: Sequence[Impossible] = ()) -> None:
        super().__init__(message)
        self.impossible = impossible


class Refusal(IntEnum):
    """Why the logs can't carry an estimate; the first that applies."""

    NONE = 0
    NO_ARM = 1
    NO_DECISIONS = 2
    NEVER_CHOSEN = 3
    TOO_FEW = 4
    ONE_DECISION = 5
    WEIGHTS_OFF = 6


_REASONS = {
    Refusal.NO_ARM: "the template has no such extractor",
    Refusal.NO_DECISIONS: "no decision in which it could have been chosen has a usable propensity and feedback: "
    "send propensity with each record, and feedback",
    Refusal.NEVER_CHOSEN: "it was chosen in none of {decisions:.0f} decisions with a usable propensity and feedback: "
    "only a share above 0 can show what it is worth",
    Refusal.TOO_FEW: "its decisions say as much as {size:.1f} with equal weights; at least {least} are needed: "
    "wait, or raise the floor of its share",
    Refusal.ONE_DECISION: "one decision counts as {weight:.0f} and has {share:.0%} of all weight, above {most:.0%}: "
    "wait, or raise the floor of its share",
    Refusal.WEIGHTS_OFF: "its weights do not add up to the {decisions:.0f} decisions in which it could have been "
    "chosen: in some it could not (send eligible_extractors, or begin when it came), or propensities are wrong",
}


@dataclass(frozen=True)
class LoggedSums:
    """One objective's sums over decisions with usable propensity and known outcome, each of shape (templates, arms).

    The names are those of `extractor_performance_daily` without the objective; add them over days, but for weight_max,
    whose largest counts. `open_*` and the sums before are over the arm's own decisions, `eligible_*` over all arms'.

    Attributes:
        logged_count: decisions for the arm.
        weight_sum: sum of w.
        weight_sq_sum: sum of w^2.
        weight_max: the largest w; 0 or NaN where there is none.
        reward_weight_sum: sum of r w.
        reward_weight_sq_sum: sum of r w^2.
        reward_sq_weight_sum: sum of r^2 w.
        reward_sq_weight_sq_sum: sum of r^2 w^2.
        open_count: those of its decisions that name no eligible extractors.
        open_reward_sum: sum of r over these.
        open_reward_sq_sum: sum of r^2 over these.
        eligible_count: decisions for any arm that name this one as eligible.
        eligible_reward_sum: sum of r over these.
        eligible_reward_sq_sum: sum of r^2 over these.
    """

    logged_count: Floats
    weight_sum: Floats
    weight_sq_sum: Floats
    weight_max: Floats
    reward_weight_sum: Floats
    reward_weight_sq_sum: Floats
    reward_sq_weight_sum: Floats
    reward_sq_weight_sq_sum: Floats
    open_count: Floats
    open_reward_sum: Floats
    open_reward_sq_sum: Floats
    eligible_count: Floats
    eligible_reward_sum: Floats
    eligible_reward_sq_sum: Floats


@dataclass(frozen=True)
class Estimate:
    """One estimator's answer, each of shape (templates, arms), NaN where refused: bounds are of 95 % intervals.

    IPS and DR may leave [0, 1], and so may the bounds: cut off, they would no longer cover.
    """

    value: Floats
    lower: Floats
    upper: Floats
    gain: Floats
    gain_lower: Floats
    gain_upper: Floats


@dataclass(frozen=True)
class PolicyValues:
    """What is estimated of every arm, each of shape (templates, arms).

    Attributes:
        decisions: in how many the arm could have been chosen; NaN where there is no arm, as below.
        on_policy: the mean outcome of these, as it was; NaN where there are none.
        effective_sample_size: sum(w)^2 / sum(w^2) (Kish): how many decisions with equal weights say as much.
        largest_weight: the largest w.
        largest_weight_share: its part of sum(w).
        ips: Horvitz-Thompson.
        snips: self-normalised.
        dr: doubly robust; NaN also where `direct` is.
        refusal: a `Refusal` of each.
    """

    decisions: Floats
    on_policy: Floats
    effective_sample_size: Floats
    largest_weight: Floats
    largest_weight_share: Floats
    ips: Estimate
    snips: Estimate
    dr: Estimate
    refusal: npt.NDArray[np.int8]

    def reason(self, template: int, arm: int) -> str | None:
        """Why there is no estimate of this arm, in words; None where there is one."""
        refusal = Refusal(int(self.refusal[template, arm]))
        if refusal is Refusal.NONE:
            return None
        return _REASONS[refusal].format(
            decisions=self.decisions[template, arm],
            size=self.effective_sample_size[template, arm],
            least=LEAST_EFFECTIVE_SAMPLE_SIZE,
            share=self.largest_weight_share[template, arm],
            most=LARGEST_WEIGHT_SHARE,
            weight=self.largest_weight[template, arm],
        )


def policy_values(sums: LoggedSums, direct: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> PolicyValues:
    """Estimate for every arm of every template what its use throughout would have been worth.

    Args:
        sums: of one objective.
        direct: the direct model m of each arm, shape (templates, arms): its mean outcome; NaN where there is none.
        mask: which arms exist, same shape; all by default. What else is said of those that don't is ignored.

    Raises:
        PolicyValueError: no decisions can have these sums; names template, arm, field and value.
    """
    exists = np.ones(np.shape(sums.logged_count), dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    logged = _checked(sums, exists)
    model = np.asarray(direct, dtype=float)
    if model.shape != exists.shape:
        raise PolicyValueError(f"direct has shape {model.shape}, the sums have {exists.shape}")
    model = np.where(exists, model, np.nan)

    with np.errstate(divide="ignore", invalid="ignore"):
        done = _Done.of(logged)
        sample_size = logged.weight_sum**2 / logged.weight_sq_sum
        share = logged.weight_max / logged.weight_sum
        refusal = _refusals(logged, done, sample_size, share, exists)
        answers = [_ips(logged, done), _snips(logged, done), _dr(logged, done, model)]
    ips, snips, dr = (_hidden(answer, refusal != Refusal.NONE) for answer in answers)

    def shown(array: Floats) -> Floats:
        return np.where(exists, array, np.nan)

    return PolicyValues(
        decisions=shown(done.count),
        on_policy=shown(done.mean),
        effective_sample_size=shown(sample_size),
        largest_weight=shown(logged.weight_max),
        largest_weight_share=shown(share),
        ips=ips,
        snips=snips,
        dr=dr,
        refusal=refusal,
    )


@dataclass(frozen=True)
class _Done:
    """The decisions in which each arm could have been chosen: how many, and their outcomes as they were."""

    count: Floats
    mean: Floats
    reward_sum: Floats
    reward_sq_sum: Floats

    @classmethod
    def of(cls, sums: LoggedSums) -> "_Done":
        count, total, total_sq = (
            open_sum.sum(axis=1, keepdims=True) + eligible_sum
            for open_sum, eligible_sum in (
                (sums.open_count, sums.eligible_count),
                (sums.open_reward_sum, sums.eligible_reward_sum),
                (sums.open_reward_sq_sum, sums.eligible_reward_sq_sum),
            )
        )
        return cls(count, total / count, total, total_sq)


def _ips(sums: LoggedSums, done: _Done) -> Estimate:
    """Terms x = w r."""
    value = sums.reward_weight_sum / done.count
    return _estimate(value, sums.reward_sq_weight_sq_sum, sums.reward_sq_weight_sum, done)


def _dr(sums: LoggedSums, done: _Done, model: Floats) -> Estimate:
    """Terms x = m + y with y = w (r - m)."""
    residual = (sums.reward_weight_sum - model * sums.weight_sum) / done.count
    squares = sums.reward_sq_weight_sq_sum - 2 * model * sums.reward_weight_sq_sum + model**2 * sums.weight_sq_sum
    products = sums.reward_sq_weight_sum - model * sums.reward_weight_sum
    return _estimate(residual, squares, products, done, model)


def _estimate(mean: Floats, squares: Floats, products: Floats, done: _Done, offset: Floats | float = 0.0) -> Estimate:
    """Of terms offset + y, with the mean and the sum of squares of y, and the sum of y r."""
    gain = mean - done.mean
    gain_squares = squares - 2 * products + done.reward_sq_sum
    return _with_bounds(
        mean + offset,
        _standard_error(squares - done.count * mean**2, done.count),
        gain + offset,
        _standard_error(gain_squares - done.count * gain**2, done.count),
    )


def _snips(sums: LoggedSums, done: _Done) -> Estimate:
    """Influence u = (N / sum(w)) w (r - V), which has mean 0; of the gain u - (r - mean)."""
    value = sums.reward_weight_sum / sums.weight_sum
    scale = done.count / sums.weight_sum
    squares = sums.reward_sq_weight_sq_sum - 2 * value * sums.reward_weight_sq_sum + value**2 * sums.weight_sq_sum
    # sum(w (r - V) (r - mean)), of which sum(w (r - V)) is 0.
    products = sums.reward_sq_weight_sum - value * sums.reward_weight_sum
    spread = done.reward_sq_sum - done.count * done.mean**2
    return _with_bounds(
        value,
        _standard_error(scale**2 * squares, done.count),
        value - done.mean,
        _standard_error(scale**2 * squares - 2 * scale * products + spread, done.count),
    )


def _standard_error(squares: Floats, count: Floats) -> Floats:
    # Where all terms are alike, the difference of the sums may end just below 0.
    error: Floats = np.sqrt(np.maximum(squares, 0) / (count * (count - 1)))
    return error


def _with_bounds(value: Floats, error: Floats, gain: Floats, gain_error: Floats) -> Estimate:
    reach, gain_reach = INTERVAL_Z * error, INTERVAL_Z * gain_error
    return Estimate(value, value - reach, value + reach, gain, gain - gain_reach, gain + gain_reach)


def _hidden(answer: Estimate, where: Mask) -> Estimate:
    return Estimate(*(np.where(where, np.nan, getattr(answer, field.name)) for field in fields(Estimate)))


def _refusals(sums: LoggedSums, done: _Done, sample_size: Floats, share: Floats, exists: Mask) -> npt.NDArray[np.int8]:
    off = np.abs(sums.weight_sum - done.count)
    spread = np.sqrt(np.maximum(sums.weight_sq_sum - sums.weight_sum**2 / done.count, 0))
    return np.select(
        [
            ~exists,
            done.count == 0,
            sums.logged_count == 0,
            sample_size < LEAST_EFFECTIVE_SAMPLE_SIZE,
            share > LARGEST_WEIGHT_SHARE,
            off > MOST_STANDARD_ERRORS_OFF * spread + _ROUNDING * done.count,
        ],
        list(Refusal)[1:],
        Refusal.NONE,
    ).astype(np.int8)


def _checked(sums: LoggedSums, exists: Mask) -> LoggedSums:
    """The sums as floats, 0 where there is no arm.

    Raises:
        PolicyValueError: no decisions can have them.
    """
    arrays: dict[str, Floats] = {}
    first: dict[int, Impossible] = {}

    def refuse(wrong: Mask, name: str, array: Floats, why: str) -> None:
        for template in np.flatnonzero(wrong.any(axis=1)).tolist():
            arm = int(np.flatnonzero(wrong[template])[0])
            first.setdefault(template, Impossible(template, arm, name, float(array[template, arm]), why))

    for field in fields(LoggedSums):
        array = np.asarray(getattr(sums, field.name), dtype=float)
        if array.shape != exists.shape or array.ndim != 2:  # noqa: PLR2004 - templates and arms
            raise PolicyValueError(f"{field.name} has shape {array.shape}, expected (templates, arms) {exists.shape}")
        array = np.where(exists, array, 0.0)
        if field.name == "weight_max":
            array = np.where(arrays["logged_count"] == 0, 0.0, array)
        refuse(~(np.isfinite(array) & (array >= 0)), field.name, array, "must be a finite number of at least 0")
        arrays[field.name] = array
    found = LoggedSums(**arrays)
    with np.errstate(invalid="ignore", over="ignore"):
        for name, most, why in (
            ("logged_count", found.weight_sum, "exceeds weight_sum, and no propensity exceeds 1"),
            ("weight_max", found.weight_sum, "exceeds weight_sum"),
            ("weight_sum", found.weight_sq_sum, "exceeds weight_sq_sum, and no propensity exceeds 1"),
            ("weight_sq_sum", found.weight_sum * found.weight_max, "exceeds weight_sum times weight_max"),
            ("reward_weight_sum", found.weight_sum, "exceeds weight_sum, and no outcome exceeds 1"),
            ("reward_weight_sq_sum", found.weight_sq_sum, "exceeds weight_sq_sum, and no outcome exceeds 1"),
            ("reward_sq_weight_sum", found.reward_weight_sum, "exceeds reward_weight_sum, and no outcome exceeds 1"),
            (
                "reward_sq_weight_sq_sum",
                found.reward_weight_sq_sum,
                "exceeds reward_weight_sq_sum, and no outcome exceeds 1",
            ),
            ("open_count", found.logged_count, "exceeds logged_count"),
            ("open_reward_sum", found.open_count, "exceeds open_count, and no outcome exceeds 1"),
            ("open_reward_sq_sum", found.open_reward_sum, "exceeds open_reward_sum, and no outcome exceeds 1"),
            ("eligible_reward_sum", found.eligible_count, "exceeds eligible_count, and no outcome exceeds 1"),
            (
                "eligible_reward_sq_sum",
                found.eligible_reward_sum,
                "exceeds eligible_reward_sum, and no outcome exceeds 1",
            ),
        ):
            refuse(arrays[name] > most * (1 + _ROUNDING) + _ROUNDING, name, arrays[name], why)
    if first:
        raise PolicyValueError("; ".join(map(str, first.values())), tuple(first.values()))
    return found
