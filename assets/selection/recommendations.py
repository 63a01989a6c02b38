"""A recommendation for each template: from what is known of its extractors and what people decided, pure.

Belongs here: putting both together, and the shares that follow. Does not belong here: the numbers (`best`, `shares`),
the verdict and its words (`decisions`), storing the outcome (`publishing`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple
from uuid import UUID

import numpy as np

from assets.selection.best import NO_ARM, Best, best, cheapest_within
from assets.selection.decisions import Arm, Change, Decision, Rules, Template, decide
from assets.selection.policies import Extractor, Policy
from assets.selection.shares import ENOUGH_FEEDBACK, LEAST_FEEDBACK, UNHEARD, Floats, held_back, share_bounds
from assets.selection.snapshots import ArmPosterior, TemplatePosteriors, content_id

_RATES = {"success": "success rate", "fields": "field accuracy"}
_DEFAULT = Policy()


class Share(NamedTuple):
    """What one extractor gets; `p_worse_than_incumbent` is None without an incumbent."""

    extractor_vendor: str
    extractor_model: str
    p_best: float
    expected_loss: float
    share_lo: float
    share_hi: float
    p_worse_than_incumbent: float | None


class Found(NamedTuple):
    """A change of an extractor's quality, as it was found."""

    changed_on: date
    found_on: date
    before: float
    after: float


@dataclass(frozen=True)
class Publication:
    """A recommendation as it is stored."""

    known: TemplatePosteriors
    policy: Policy
    decision: Decision
    recommended: Extractor
    incumbent: Extractor | None
    is_overridden: bool
    cheapest: Extractor | None
    expected_max: float
    value_remaining: float
    shares: Sequence[Share]

    @property
    def snapshot_id(self) -> UUID:
        """Made of the content."""
        return content_id([self._header(), self.shares])

    def rows(self) -> tuple[dict[str, object], list[dict[str, object]]]:
        """The header's row and its shares'."""
        header = {"snapshot_id": self.snapshot_id} | self._header()
        about = {name: header[name] for name in ("snapshot_id", "tenant_id", "template_id")}
        return header, [about | share._asdict() for share in self.shares]

    def _header(self) -> dict[str, object]:
        return {
            "posterior_id": self.known.posterior_id,
            "tenant_id": self.known.tenant_id,
            "template_id": self.known.template_id,
            "template": self.known.template,
            "decision": self.decision.decision,
            "reason": self.decision.reason,
            "extractor_vendor": self.recommended.vendor,
            "extractor_model": self.recommended.model,
            "assigned_by": "override" if self.is_overridden else "share",
            "incumbent_vendor": self.incumbent.vendor if self.incumbent else None,
            "incumbent_model": self.incumbent.model if self.incumbent else None,
            "cheapest_vendor": self.cheapest.vendor if self.cheapest else None,
            "cheapest_model": self.cheapest.model if self.cheapest else None,
            "exploration_floor": self.policy.exploration_floor,
            "tolerance": self.policy.tolerance,
            "expected_max": self.expected_max,
            "value_remaining": self.value_remaining,
        }


@dataclass(frozen=True)
class Evidence:
    """What recommendations are made of.

    Attributes:
        templates: what is known, all templates of each tenant: its newest day of evidence is what "today" means, so
            that the same evidence gives the same recommendation whenever it is computed.
        policies: by tenant and template; the defaults hold for others.
        retired: by tenant, who is not to be chosen.
        heirs: by tenant, who was said to be the new version of another: a candidate before anything is heard of it.
        changes: by tenant, template and extractor, the newest change of its quality.
    """

    templates: Sequence[TemplatePosteriors]
    policies: Mapping[tuple[str, UUID], Policy]
    retired: Mapping[str, Iterable[Extractor]]
    heirs: Mapping[str, Iterable[Extractor]]
    changes: Mapping[tuple[str, UUID, Extractor], Found]


def recommendations(evidence: Evidence) -> list[Publication]:
    """What to recommend for each template that has an extractor to choose from, in the order given."""
    today: dict[str, date] = {}
    feedback: Counter[tuple[str, Extractor]] = Counter()
    for known in evidence.templates:
        today[known.tenant_id] = max(known.evidence_to, today.get(known.tenant_id, known.evidence_to))
        feedback.update({(known.tenant_id, arm.extractor): arm.feedback_count for arm in known.arms})
    choices = [_Choice(known, evidence, feedback) for known in evidence.templates]
    choices = [choice for choice in choices if choice.arms]
    if not choices:
        return []
    found = _found(choices)
    return [choice.publication(found, row, today[choice.known.tenant_id]) for row, choice in enumerate(choices)]


class _Choice:
    """One template's arms, those that may be chosen, and what was decided about them."""

    def __init__(
        self, known: TemplatePosteriors, evidence: Evidence, feedback: Mapping[tuple[str, Extractor], int]
    ) -> None:
        key = known.tenant_id, known.template_id
        retired = set(evidence.retired.get(known.tenant_id, ()))
        self.known = known
        self.policy = evidence.policies.get(key, _DEFAULT)
        self.arms: list[ArmPosterior] = [arm for arm in known.arms if arm.extractor not in retired]
        self.changes = [evidence.changes.get((*key, arm.extractor)) for arm in self.arms]
        names = {arm.extractor: index for index, arm in enumerate(self.arms)}
        self.incumbent = NO_ARM if self.policy.incumbent is None else names.get(self.policy.incumbent, NO_ARM)
        self.override = NO_ARM if self.policy.override is None else names.get(self.policy.override, NO_ARM)
        declared = {*evidence.heirs.get(known.tenant_id, ()), self.policy.incumbent}
        is_new = all(arm.feedback_count < ENOUGH_FEEDBACK for arm in self.arms)
        self.is_heard = [
            is_new or arm.extractor in declared or feedback[known.tenant_id, arm.extractor] >= LEAST_FEEDBACK
            for arm in self.arms
        ]

    def publication(self, found: Best, row: int, today: date) -> Publication:
        decision = self._decision(found, row, today)
        count = len(self.arms)
        losses, costs = found.expected_loss[row, :count], np.array([_number(arm.mean_cost_usd) for arm in self.arms])
        cheapest = int(cheapest_within(losses[None], costs[None], np.ones((1, count), bool), self.policy.tolerance)[0])
        return Publication(
            known=self.known,
            policy=self.policy,
            decision=decision,
            recommended=self.arms[decision.recommended].extractor,
            incumbent=self._named(self.incumbent),
            is_overridden=self.override != NO_ARM,
            cheapest=self._named(cheapest) if np.isfinite(costs).any() else None,
            expected_max=float(found.expected_best[row]),
            value_remaining=float(found.value_remaining[row]),
            shares=self._shares(found, row),
        )

    def _decision(self, found: Best, row: int, today: date) -> Decision:
        arms = [
            Arm(str(arm.extractor), arm.feedback_count, arm.mean, float(p_best), _change(change, today))
            for arm, p_best, change in zip(self.arms, found.p_best[row], self.changes, strict=False)
        ]
        template = Template(
            arms=arms,
            value_remaining=float(found.value_remaining[row]),
            incumbent=None if self.incumbent == NO_ARM else self.incumbent,
            override=None if self.override == NO_ARM else self.override,
            rate=_RATES[self.known.objective],
        )
        found_so = decide(template, Rules(tolerance=self.policy.tolerance))
        return found_so._replace(reason=" ".join([found_so.reason, *self._missing(), *self._held_back(found, row)]))

    def _missing(self) -> Iterator[str]:
        named = (self.policy.incumbent, self.incumbent, "incumbent"), (self.policy.override, self.override, "override")
        for extractor, arm, what in named:
            if extractor is not None and arm == NO_ARM:
                yield f"The {what} {extractor} is left out: it has no evaluations in the days that are learnt from."

    def _held_back(self, found: Best, row: int) -> Iterator[str]:
        p_best = found.p_best[row, : len(self.arms)]
        if self.override == NO_ARM and (self._dealt(p_best) != p_best).any():
            names = [str(arm.extractor) for arm, heard in zip(self.arms, self.is_heard, strict=True) if not heard]
            yield (
                f"Of {' and '.join(names)} next to nothing is known (fewer than {LEAST_FEEDBACK} feedbacks on all "
                f"templates): until more is, {UNHEARD:.0%} of what isn't the floor is sent there. A slip of the pen is "
                "retired with tidemark selection retire."
            )

    def _dealt(self, p_best: Floats) -> Floats:
        dealt: Floats = held_back(p_best[None], [self.is_heard])[0]
        return dealt

    def _shares(self, found: Best, row: int) -> list[Share]:
        count = len(self.arms)
        p_best = found.p_best[row, :count]
        # An override leaves nothing to the others, not even the floor.
        dealt = self._dealt(p_best) if self.override == NO_ARM else np.eye(count)[self.override]
        floor = self.policy.exploration_floor if self.override == NO_ARM else 0.0
        low, high = share_bounds(dealt[None], floor=floor)
        worse = found.p_worse[row, :count].tolist() if self.incumbent != NO_ARM else [None] * count
        rows = zip(
            p_best.tolist(), found.expected_loss[row].tolist(), low[0].tolist(), high[0].tolist(), worse, strict=False
        )
        return [Share(*arm.extractor, *numbers) for arm, numbers in zip(self.arms, rows, strict=True)]

    def _named(self, arm: int) -> Extractor | None:
        return None if arm == NO_ARM else self.arms[arm].extractor


def _found(choices: Sequence[_Choice]) -> Best:
    shape = len(choices), max(len(choice.arms) for choice in choices)
    alpha, beta, mask = np.ones(shape), np.ones(shape), np.zeros(shape, dtype=bool)
    for row, choice in enumerate(choices):
        count = len(choice.arms)
        alpha[row, :count] = [arm.alpha for arm in choice.arms]
        beta[row, :count] = [arm.beta for arm in choice.arms]
        mask[row, :count] = True
    return best(alpha, beta, mask, incumbent=np.array([choice.incumbent for choice in choices]))


def _change(found: Found | None, today: date) -> Change | None:
    if found is None:
        return None
    return Change((today - found.found_on).days, (today - found.changed_on).days, found.before, found.after)


def _number(value: float | None) -> float:
    return np.nan if value is None else value
