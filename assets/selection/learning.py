"""Learning: from daily sums of feedback to the Beta posterior of every arm, in one call.

Belongs here: the order in which evidence, changes and priors meet. Does not belong here: their mathematics
(evidence.py, changes.py, priors.py), the probability of being best (best.py), tables (assets.py).

Everything follows from the sums alone: the same sums give the same bytes, whatever order the feedback came in.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assets.selection.changes import fading, find_changes
from assets.selection.evidence import DailySums, EvidenceError, Floats, Integers, Mask, checked, evidence
from assets.selection.priors import priors
from assets.selection.watch import Changes

# A day's evidence halves in this time. An arm that is played gathers more than fades; one that isn't drifts back to
# its prior, so that it is tried again. By the calendar, not by who was played: else a success could speak against its
# own arm by keeping older failures alive.
HALF_LIFE_DAYS = 365.0
# What the time before a change, and an arm's predecessor, say of what came after: at most so many feedbacks. Two are
# as much as Beta(1, 1); ten are a standard deviation of 0.12 at a rate of 0.8, about what versions differ by.
WEIGHT_OF_BEFORE = 2.0
WEIGHT_OF_PREDECESSOR = 10.0
LEAST_PRIOR = 0.1
NO_PREDECESSOR = -1
FROM_BEFORE, FROM_PREDECESSOR = 3, 4


@dataclass(frozen=True)
class Learnt:
    """What is known of every arm after the last day; arrays of shape (templates, arms), NaN (counts: 0) off the mask.

    The posterior is Beta(alpha, beta) and begins with Beta(prior_alpha, prior_beta). `effective_count` is the evidence
    between the two, in feedbacks. `prior_source` is one of priors.FROM_* or FROM_BEFORE, FROM_PREDECESSOR.
    """

    alpha: Floats
    beta: Floats
    prior_alpha: Floats
    prior_beta: Floats
    prior_source: Integers
    effective_count: Floats
    changes: Changes


def learn(
    daily: DailySums,
    groups: npt.ArrayLike,
    arm_ids: npt.ArrayLike | None = None,
    predecessors: npt.ArrayLike | None = None,
    tenants: npt.ArrayLike | None = None,
    silent_days: npt.ArrayLike | None = None,
) -> Learnt:
    """Posteriors of all arms, with the changes that were found on the way.

    Args:
        daily: feedback by day, oldest first.
        groups: who learns together, as a whole number for each template, shape (templates,). Correlations and priors
            are pooled within a group and never beyond: give tenants that opted in a number in common.
        arm_ids: which extractor each arm is, shape (templates, arms): the same number on all templates of a group. By
            default the column.
        predecessors: the column of the arm whose new version an arm is, -1 for none, shape (templates, arms).
        tenants: the tenant of each template as a whole number, shape (templates,): rhythms and shocks are a tenant's
            own. By default the group.
        silent_days: how many of the last days come after a tenant's "today", the same for all of its templates, shape
            (templates,); none by default.

    Raises:
        EvidenceError: impossible sums, shapes that don't fit, a predecessor that isn't there or is its own.
    """
    daily = checked(daily)
    mask = daily.mask
    _generations(_identities(mask, groups, arm_ids, predecessors)[2], mask)
    worth = evidence(daily, groups)
    whose = groups if tenants is None else tenants
    changes = find_changes(worth.known_successes, worth.known_failures, whose, silent_days)
    return conclude(worth.successes, worth.failures, mask, groups, changes, arm_ids, predecessors, silent_days)


def conclude(
    successes: Floats,
    failures: Floats,
    mask: Mask,
    groups: npt.ArrayLike,
    changes: Changes,
    arm_ids: npt.ArrayLike | None = None,
    predecessors: npt.ArrayLike | None = None,
    silent_days: npt.ArrayLike | None = None,
) -> Learnt:
    """The posteriors, given each day's pseudo-counts (templates, arms, days) and their changes; see `learn`."""
    group, ids, before = _identities(mask, groups, arm_ids, predecessors)
    good, bad = (_still_counting(values, changes, silent_days) for values in (successes, failures))
    found = priors(good, bad, mask, group, ids)
    alpha, beta, source = found.alpha, found.beta, found.source
    _begin_again(alpha, beta, source, changes, *np.nonzero(mask & (before < 0)))
    for rows, arms in _generations(before, mask):
        older = before[rows, arms]
        older_alpha, older_beta = alpha[rows, older] + good[rows, older], beta[rows, older] + bad[rows, older]
        alpha[rows, arms], beta[rows, arms] = _capped(older_alpha, older_beta, WEIGHT_OF_PREDECESSOR)
        source[rows, arms] = FROM_PREDECESSOR
        _begin_again(alpha, beta, source, changes, rows, arms)
    return Learnt(
        alpha=alpha + good,
        beta=beta + bad,
        prior_alpha=alpha,
        prior_beta=beta,
        prior_source=source,
        effective_count=np.where(mask, good + bad, 0.0),
        changes=changes,
    )


def _identities(
    mask: Mask, groups: npt.ArrayLike, arm_ids: npt.ArrayLike | None, predecessors: npt.ArrayLike | None
) -> tuple[npt.NDArray[Any], Integers, Integers]:
    group = np.asarray(groups)
    ids = np.broadcast_to(np.arange(mask.shape[1]), mask.shape) if arm_ids is None else np.asarray(arm_ids)
    before = np.full(mask.shape, NO_PREDECESSOR) if predecessors is None else np.asarray(predecessors, dtype=np.int64)
    if group.shape != mask.shape[:1] or ids.shape != mask.shape or before.shape != mask.shape:
        raise EvidenceError(
            f"groups are (templates,), arm_ids and predecessors (templates, arms) as the mask {mask.shape}: "
            f"got {group.shape}, {ids.shape}, {before.shape}"
        )
    return group, ids, before


def _still_counting(values: Floats, changes: Changes, silent_days: npt.ArrayLike | None) -> Floats:
    """Sums over the days since the restart that aren't void, each day faded by its age on the template's last day."""
    days = values.shape[2]
    weights = fading(days, HALF_LIFE_DAYS)
    total = np.asarray(values @ weights)
    for template, arm in np.argwhere((changes.restart_day > 0) | changes.void.any(axis=2)):
        counts = ~changes.void[template, arm]
        counts[: max(changes.restart_day[template, arm], 0)] = False
        total[template, arm] = values[template, arm] @ (weights * counts)
    if silent_days is None:
        return total
    return np.asarray(total * 2.0 ** (np.asarray(silent_days) / HALF_LIFE_DAYS)[:, None])


def _begin_again(
    alpha: Floats, beta: Floats, source: Integers, changes: Changes, rows: Integers, arms: Integers
) -> None:
    """Where an arm changed, the prior becomes a weak one at the rate before, in place."""
    changed = changes.restart_day[rows, arms] >= 0
    rows, arms = rows[changed], arms[changed]
    rate, count = changes.rate_before[rows, arms], changes.count_before[rows, arms]
    alpha[rows, arms], beta[rows, arms] = _capped(
        alpha[rows, arms] + rate * count, beta[rows, arms] + (1 - rate) * count, WEIGHT_OF_BEFORE
    )
    source[rows, arms] = FROM_BEFORE


def _capped(alpha: Floats, beta: Floats, cap: float) -> tuple[Floats, Floats]:
    total = alpha + beta
    weight = np.minimum(total, cap)
    mean = np.clip(alpha / total, LEAST_PRIOR / weight, 1 - LEAST_PRIOR / weight)
    return weight * mean, weight * (1 - mean)


def _generations(before: Integers, mask: Mask) -> list[tuple[Integers, Integers]]:
    """Arms that have a predecessor, as (templates, arms) indices: predecessors' generations first."""
    heirs = mask & (before >= 0)
    rows, arms = np.nonzero(heirs)
    older = before[rows, arms]
    wrong = (older >= mask.shape[1]) | ~mask[rows, np.minimum(older, mask.shape[1] - 1)]
    known = ~heirs
    generations = []
    while not wrong.any() and len(rows):
        ready = known[rows, older]
        if not ready.any():
            wrong = ~ready
            break
        generations.append((rows[ready], arms[ready]))
        known[rows[ready], arms[ready]] = True
        rows, arms, older = rows[~ready], arms[~ready], older[~ready]
        wrong = wrong[:0]
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise EvidenceError(
            f"predecessor {older[at]} of template {rows[at]}, arm {arms[at]} is no arm of that template, or its heir: "
            "name the column of an older version, or -1"
        )
    return generations
