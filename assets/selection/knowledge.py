"""Knowledge: what a group's history says of each extractor, as it is stored; pure.

Belongs here: the step from histories to posteriors, priors and changes with names and dates. Does not belong here: the
statistics (`learning`), SQL (`history`, `snapshots`, `findings`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import NamedTuple
from uuid import UUID

import numpy as np
from scipy import special

from assets.selection.evidence import EvidenceError, Impossible
from assets.selection.history import Group, TemplateHistory, daily_sums, first_day
from assets.selection.learning import FROM_BEFORE, FROM_PREDECESSOR, NO_PREDECESSOR, Learnt, learn
from assets.selection.policies import Extractor, Objective, Ruling
from assets.selection.priors import FROM_BETA, FROM_CORRELATED, FROM_UNIFORM
from assets.selection.refusals import Refused
from assets.selection.snapshots import ArmPosterior, TemplatePosteriors

CREDIBLE = 0.95
_BASES = {
    FROM_UNIFORM: "uniform",
    FROM_BETA: "beta",
    FROM_CORRELATED: "correlated",
    FROM_BEFORE: "before the change",
    FROM_PREDECESSOR: "predecessor",
}


class ArmPrior(NamedTuple):
    """What is assumed of an extractor on a template before its own feedback: a row of ml.extractor_priors."""

    tenant_id: str
    template_id: UUID
    extractor_vendor: str
    extractor_model: str
    objective: Objective
    alpha: float
    beta: float
    basis: str


class ArmChange(NamedTuple):
    """The newest change of an extractor's quality on a template: a row of ml.extractor_changes."""

    tenant_id: str
    template_id: UUID
    template: str
    extractor_vendor: str
    extractor_model: str
    objective: Objective
    changed_on: date
    found_on: date
    statistic: float
    threshold: float
    mean_before: float
    mean_after: float
    count_before: float
    count_after: float
    evidence_to: date


@dataclass(frozen=True)
class Knowledge:
    """All that was learnt of a group, and of which templates nothing was."""

    templates: Sequence[TemplatePosteriors]
    priors: Sequence[ArmPrior]
    changes: Sequence[ArmChange]
    refused: Sequence[Refused]


def know(group: Group, rulings: Mapping[str, Sequence[Ruling]]) -> Knowledge:
    """Learn a group's posteriors, without the templates that have a day whose sums are impossible.

    Args:
        group: histories of templates with feedback.
        rulings: by tenant, which extractor comes after which.
    """
    try:
        return _known(group, rulings)
    except EvidenceError as error:
        if not error.impossible:
            raise
        refused = [_refused(group, each) for each in error.impossible]
        rows = {each.template for each in error.impossible}
    possible = [template for row, template in enumerate(group.templates) if row not in rows]
    return replace(_known(replace(group, templates=possible), rulings), refused=refused)


def _refused(group: Group, found: Impossible) -> Refused:
    template = group.templates[found.template]
    return Refused(
        template.tenant_id,
        template.template_id,
        template.template,
        template.arms[found.arm].extractor,
        first_day(group) + timedelta(days=found.day),
        found.field,
        found.value,
        found.why,
    )


def _known(group: Group, rulings: Mapping[str, Sequence[Ruling]]) -> Knowledge:
    if not group.templates:
        return Knowledge([], [], [], [])
    daily = daily_sums(group)
    names = {
        name: number
        for number, name in enumerate(sorted({arm.extractor for template in group.templates for arm in template.arms}))
    }
    ids = np.full(daily.mask.shape, len(names))
    before = np.full(daily.mask.shape, NO_PREDECESSOR)
    for row, template in enumerate(group.templates):
        columns = {arm.extractor: column for column, arm in enumerate(template.arms)}
        ids[row, : len(template.arms)] = [names[arm.extractor] for arm in template.arms]
        for ruling in rulings.get(template.tenant_id, ()):
            if ruling.predecessor in columns and ruling.extractor in columns:
                before[row, columns[ruling.extractor]] = columns[ruling.predecessor]
    first = first_day(group)
    last = first + timedelta(days=daily.success_count.shape[2] - 1)
    _, tenants = np.unique([template.tenant_id for template in group.templates], return_inverse=True)
    silent = [(last - template.today).days for template in group.templates]
    learnt = learn(daily, np.zeros(len(group.templates), dtype=int), ids, before, tenants, silent)
    return _named(group, learnt, first)


def _named(group: Group, learnt: Learnt, first: date) -> Knowledge:
    tail = (1 - CREDIBLE) / 2
    lower = special.betaincinv(learnt.alpha, learnt.beta, tail)
    upper = special.betainccinv(learnt.alpha, learnt.beta, tail)
    templates, priors, changes = [], [], []
    for row, template in enumerate(group.templates):
        arms = []
        for column, arm in enumerate(template.arms):
            alpha, beta = float(learnt.alpha[row, column]), float(learnt.beta[row, column])
            changed = _day(first, int(learnt.changes.restart_day[row, column]))
            arms.append(
                ArmPosterior(
                    *arm.extractor,
                    feedback_count=template.feedback_count(arm),
                    success_count=arm.total("success_count"),
                    failure_count=arm.total("failure_count"),
                    effective_count=float(learnt.effective_count[row, column]),
                    alpha=alpha,
                    beta=beta,
                    mean=alpha / (alpha + beta),
                    lower=float(lower[row, column]),
                    upper=float(upper[row, column]),
                    restarted_on=changed,
                    mean_cost_usd=arm.mean_cost_usd,
                    mean_latency_ms=arm.mean_latency_ms,
                )
            )
            priors.append(_prior(template, arm.extractor, learnt, (row, column)))
            if changed is not None:
                changes.append(_change(template, arm.extractor, learnt, (row, column), first))
        about = template.tenant_id, template.template_id, template.template, template.objective
        templates.append(TemplatePosteriors(*about, template.today, arms))
    return Knowledge(templates, priors, changes, [])


def _prior(template: TemplateHistory, extractor: Extractor, learnt: Learnt, at: tuple[int, int]) -> ArmPrior:
    return ArmPrior(
        template.tenant_id,
        template.template_id,
        *extractor,
        template.objective,
        float(learnt.prior_alpha[at]),
        float(learnt.prior_beta[at]),
        _BASES[int(learnt.prior_source[at])],
    )


def _change(
    template: TemplateHistory, extractor: Extractor, learnt: Learnt, at: tuple[int, int], first: date
) -> ArmChange:
    found = learnt.changes
    return ArmChange(
        template.tenant_id,
        template.template_id,
        template.template,
        *extractor,
        template.objective,
        first + timedelta(days=int(found.restart_day[at])),
        first + timedelta(days=int(found.alarm_day[at])),
        float(found.statistic[at]),
        found.threshold,
        float(found.rate_before[at]),
        float(found.rate_after[at]),
        float(found.count_before[at]),
        float(found.count_after[at]),
        template.today,
    )


def _day(first: date, number: int) -> date | None:
    return None if number < 0 else first + timedelta(days=number)
