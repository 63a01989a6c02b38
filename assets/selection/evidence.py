"""Evidence: what a day's feedback on an arm is worth, in pseudo-counts of successes and failures.

Belongs here: daily sums, their refusal when they can't be, the two objectives. Does not belong here: what was known
before the feedback (priors.py), which days still count (changes.py).

A success or failure counts once. The fields of a document are right and wrong together, so `fields_correct` of
`fields_total` says far less than as many independent answers: counted as such, a 95 % interval
often misses the truth. Evidence is therefore matched to the variance: with m the mean of an arm's per-document rates
and s^2 the variance of that mean, a Beta posterior of kappa = m(1-m)/s^2 pseudo-counts has that mean and that spread.
A document is then worth w = m(1-m)/v pseudo-counts, v being the variance of one document's rate; with k fields a
document and a correlation rho within it, w = k / (1 + (k-1) rho), the design effect of cluster sampling (Kish 1965).
rho is what is estimated, because it carries over between arms, templates and lengths of documents.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage.errors import TidemarkError

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

# What is assumed of a tenant's documents before any was seen, and what that assumption weighs. Weights are in units of
# (documents - 1) m(1-m): two stand for eight documents at a rate of a half, or for forty at 0.95.
ASSUMED_CORRELATION = 0.4
_TENANT_WEIGHT = 2.0
_TEMPLATE_WEIGHT = 2.0
_ARM_WEIGHT = 2.0
_DAILY_DIMENSIONS = 3
_ROUNDING = 1e-9


class EvidenceError(TidemarkError):
    """Daily sums that can't be: negative, not finite, more right than there are, of different shapes."""


@dataclass(frozen=True)
class FieldSums:
    """Sums of a day's field feedback; every array has the shape (templates, arms, days), oldest day first.

    `rate_sum` and `rate_sum_sq` are over documents, of the share of a document's fields that are right.
    """

    document_count: Floats
    rate_sum: Floats
    rate_sum_sq: Floats
    fields_correct: Floats
    fields_total: Floats


@dataclass(frozen=True)
class DailySums:
    """A day's feedback on every arm: arrays of shape (templates, arms, days), one column a calendar day, oldest first.

    `mask`, of shape (templates, arms), says which arms exist: whatever stands elsewhere is ignored. `by_fields`, of
    shape (templates,), says whose objective is field accuracy; the others' is the success rate. `fields` may be left
    out where nobody's is.
    """

    mask: Mask
    success_count: Floats
    failure_count: Floats
    by_fields: Mask
    fields: FieldSums | None = None
    feedback_count: Floats | None = None


def checked(daily: DailySums) -> DailySums:
    """The same sums as float64, with 0 where no arm is.

    Raises:
        EvidenceError: an existing arm's sum is impossible. It names template, arm, day, field, value and the remedy.
    """
    mask = np.asarray(daily.mask, dtype=bool)
    shape = np.shape(daily.success_count)
    by_fields = np.asarray(daily.by_fields, dtype=bool)
    if len(shape) != _DAILY_DIMENSIONS or mask.shape != shape[:2] or by_fields.shape != shape[:1]:
        raise EvidenceError(
            f"daily sums are (templates, arms, days), mask (templates, arms), by_fields (templates,): got "
            f"success_count {shape}, mask {mask.shape}, by_fields {by_fields.shape}"
        )
    if by_fields.any() and daily.fields is None:
        raise EvidenceError("by_fields declares field accuracy, but there are no field sums: pass `fields`")

    def taken(name: str, values: npt.ArrayLike) -> Floats:
        array = np.asarray(values, dtype=float)
        if array.shape != shape:
            raise EvidenceError(f"{name} has the shape {array.shape}, success_count {shape}: daily sums share one")
        _refuse(name, array, mask, ~(np.isfinite(array) & (array >= 0)), "sums are finite and not negative")
        return np.where(mask[..., None], array, 0.0)

    success, failure = taken("success_count", daily.success_count), taken("failure_count", daily.failure_count)
    feedback = None
    if daily.feedback_count is not None:
        feedback = taken("feedback_count", daily.feedback_count)
        _refuse(
            "success_count + failure_count",
            success + failure,
            mask,
            success + failure > feedback,
            "more outcomes than feedback",
        )
    return DailySums(mask, success, failure, by_fields, _checked_fields(daily.fields, taken, mask), feedback)


def _checked_fields(
    fields: FieldSums | None, taken: Callable[[str, npt.ArrayLike], Floats], mask: Mask
) -> FieldSums | None:
    if fields is None:
        return None
    sums = FieldSums(**{name: taken(name, values) for name, values in vars(fields).items()})
    documents, slack = sums.document_count, _ROUNDING * (1 + sums.document_count)
    for name, wrong, why in (
        ("fields_correct", sums.fields_correct > sums.fields_total, "more fields right than there are"),
        ("fields_total", (sums.fields_total < documents), "a document with field feedback has at least one field"),
        ("document_count", (documents == 0) & (sums.fields_total > 0), "fields of no document"),
        ("rate_sum", sums.rate_sum > documents + slack, "a rate is at most 1"),
        ("rate_sum_sq", sums.rate_sum_sq > sums.rate_sum + slack, "a rate's square is at most the rate"),
        (
            "rate_sum_sq",
            sums.rate_sum_sq * documents < sums.rate_sum**2 * (1 - _ROUNDING) - slack,
            "squares are at least the mean's",
        ),
    ):
        _refuse(name, getattr(sums, name), mask, wrong, why)
    return sums


def _refuse(name: str, values: Floats, mask: Mask, wrong: Mask, why: str) -> None:
    wrong = wrong & mask[..., None]
    if wrong.any():
        template, arm, day = (int(index) for index in np.argwhere(wrong)[0])
        raise EvidenceError(
            f"{name} {values[template, arm, day]} of template {template}, arm {arm}, day {day} is impossible: {why}. "
            "Check marts.extractor_performance_daily."
        )


@dataclass(frozen=True)
class Evidence:
    """Pseudo-counts, each of the shape (templates, arms, days).

    `successes` and `failures` weigh a day's documents by what is known at the end of the last day; `known_successes`
    and `known_failures` by what was known on the day itself, so that a day's figure never changes later.
    """

    successes: Floats
    failures: Floats
    known_successes: Floats
    known_failures: Floats


def evidence(daily: DailySums, groups: npt.ArrayLike) -> Evidence:
    """What each day's feedback is worth under its template's objective.

    Args:
        daily: sums that `checked` let pass.
        groups: the tenant of each template as a whole number, shape (templates,): correlations are pooled within it.
    """
    success, failure = daily.success_count, daily.failure_count
    rows = np.flatnonzero(daily.by_fields)
    if daily.fields is None or not len(rows):
        return Evidence(success, failure, success, failure)
    sums = FieldSums(**{name: values[rows] for name, values in vars(daily.fields).items()})
    worth = document_worth(sums, np.asarray(groups)[rows])
    wrong_sum = np.maximum(sums.document_count - sums.rate_sum, 0.0)

    def replaced(counts: Floats, rates: Floats, weights: Floats) -> Floats:
        result = counts.copy()
        result[rows] = rates * weights
        return result

    last = worth[..., -1:]
    return Evidence(
        successes=replaced(success, sums.rate_sum, last),
        failures=replaced(failure, wrong_sum, last),
        known_successes=replaced(success, sums.rate_sum, worth),
        known_failures=replaced(failure, wrong_sum, worth),
    )


def document_worth(sums: FieldSums, groups: npt.ArrayLike) -> Floats:
    """Pseudo-counts that a document of an arm is worth, as known at the end of each day; (templates, arms, days).

    Between 1 (a document's fields are right or wrong together) and the mean number of fields (they are independent).
    The correlation of an arm is shrunk toward its template's, that one toward its tenant's.
    """
    count, total, squares, fields = (
        np.cumsum(values, axis=2)
        for values in (sums.document_count, sums.rate_sum, sums.rate_sum_sq, sums.fields_total)
    )
    safe = np.maximum(count, 1.0)
    mean, length = total / safe, np.maximum(fields / safe, 1.0)
    deviation = np.maximum(squares - total * mean, 0.0)
    freedom = np.maximum(count - 1, 0.0)
    # m(1-m) of the estimated mean falls short of the true one by the variance of that mean.
    spread = mean * (1 - mean) + deviation / np.maximum(freedom, 1.0) / safe
    information = freedom * spread
    excess = np.where(freedom > 0, deviation - information / length, 0.0)
    information = information * (1 - 1 / length)

    _, tenant = np.unique(np.asarray(groups), return_inverse=True)
    shape = (int(tenant.max()) + 1, count.shape[2])
    excess_of_tenant, information_of_tenant = np.zeros(shape), np.zeros(shape)
    np.add.at(excess_of_tenant, tenant, excess.sum(axis=1))
    np.add.at(information_of_tenant, tenant, information.sum(axis=1))
    pooled = _shrunk(excess_of_tenant, information_of_tenant, ASSUMED_CORRELATION, _TENANT_WEIGHT)[tenant]
    template = _shrunk(excess.sum(axis=1), information.sum(axis=1), pooled, _TEMPLATE_WEIGHT)
    arm = _shrunk(excess, information, template[:, None, :], _ARM_WEIGHT)
    return np.asarray(length / (1 + (length - 1) * arm))


def _shrunk(excess: Floats, information: Floats, toward: Floats | float, weight: float) -> Floats:
    return np.clip((excess + weight * toward) / (information + weight), 0.0, 1.0)
