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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
# Of 600 such days something can still be computed (best.LARGEST_PARAMETER).
_LARGEST_SUM = 1e9
_ROUNDING = 1e-9


class Impossible(NamedTuple):
    """A sum that can't be: by the numbers of its template, arm and day, with its name, its value and why."""

    template: int
    arm: int
    day: int
    field: str
    value: float
    why: str

    def __str__(self) -> str:
        return (
            f"{self.field} {self.value} of template {self.template}, arm {self.arm}, day {self.day} is impossible: "
            f"{self.why}. Check marts.extractor_performance_daily."
        )


class EvidenceError(TidemarkError):
    """Daily sums that can't be: negative, not finite, more right than there are, of different shapes.

    Attributes:
        impossible: the first impossible sum of each template that has one; none where shapes don't fit.
    """

    def __init__(self, message: str, impossible: Sequence[Impossible] = ()) -> None:
        super().__init__(message)
        self.impossible = impossible


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
        EvidenceError: an existing arm's sum is impossible, or shapes differ. It names template, arm, day, field, value
            and the remedy, and has the first such sum of each template.
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
        return np.where(mask[..., None], array, 0.0)

    success, failure = taken("success_count", daily.success_count), taken("failure_count", daily.failure_count)
    feedback = None if daily.feedback_count is None else taken("feedback_count", daily.feedback_count)
    fields = daily.fields and FieldSums(**{name: taken(name, values) for name, values in vars(daily.fields).items()})
    sums = DailySums(mask, success, failure, by_fields, fields, feedback)
    found: dict[int, Impossible] = {}
    with np.errstate(invalid="ignore", over="ignore"):
        for name, values, wrong, why in _rules(sums):
            for template in np.flatnonzero(wrong.any(axis=(1, 2))).tolist():
                arm, day = map(int, np.argwhere(wrong[template])[0])
                found.setdefault(template, Impossible(template, arm, day, name, float(values[template, arm, day]), why))
    if found:
        first, *others = found.values()
        beside = f" So are sums of {len(others)} templates more." if others else ""
        raise EvidenceError(f"{first}{beside}", tuple(found.values()))
    return sums


def _rules(sums: DailySums) -> Iterator[tuple[str, Floats, Mask, str]]:
    """What each sum must be: its name, its values, where they are wrong, and why."""
    counts = {"success_count": sums.success_count, "failure_count": sums.failure_count}
    if sums.feedback_count is not None:
        counts["feedback_count"] = sums.feedback_count
    for name, values in counts.items():
        yield name, values, *_no_sum(values)
    if sums.feedback_count is not None:
        outcomes = sums.success_count + sums.failure_count
        yield "success_count + failure_count", outcomes, outcomes > sums.feedback_count, "more outcomes than feedback"
    if sums.fields is not None:
        counted = sums.by_fields[:, None, None]
        for name, wrong, why in _field_rules(sums.fields):
            yield name, getattr(sums.fields, name), wrong & counted, why


def _no_sum(values: Floats) -> tuple[Mask, str]:
    return ~((values >= 0) & (values <= _LARGEST_SUM)), f"a day's sums are from 0 to {_LARGEST_SUM:.0e}"


def _field_rules(sums: FieldSums) -> Iterator[tuple[str, Mask, str]]:
    for name, values in vars(sums).items():
        yield name, *_no_sum(values)
    documents, slack = sums.document_count, _ROUNDING * (1 + sums.document_count)
    yield "fields_correct", sums.fields_correct > sums.fields_total, "more fields right than there are"
    yield "fields_total", sums.fields_total < documents, "a document with field feedback has at least one field"
    yield "document_count", (documents == 0) & (sums.fields_total > 0), "fields of no document"
    yield "rate_sum", sums.rate_sum > documents + slack, "a rate is at most 1"
    yield "rate_sum_sq", sums.rate_sum_sq > sums.rate_sum + slack, "a rate's square is at most the rate"
    least = sums.rate_sum**2 * (1 - _ROUNDING) - slack
    yield "rate_sum_sq", sums.rate_sum_sq * documents < least, "squares are at least the mean's"


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
