"""A choice from a published recommendation: always the recommended extractor, or one by its share.

Belongs here: the choice and its probability, pure. Does not belong here: how shares come about (`shares`,
`decisions`), reading what is published (`published`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple
from uuid import UUID

from assets.selection.policies import Extractor

Mode = Literal["best", "sample"]


class Arm(NamedTuple):
    """One extractor of a recommendation; mean, interval and expected loss in units of the objective, a rate."""

    extractor_vendor: str
    extractor_model: str
    mean: float
    lower: float
    upper: float
    p_best: float
    expected_loss: float
    p_worse_than_incumbent: float | None
    share_lo: float
    share_hi: float
    feedback_count: int
    success_count: int
    failure_count: int
    mean_cost_usd: float | None
    mean_latency_ms: float | None

    @property
    def extractor(self) -> Extractor:
        """Who it is."""
        return Extractor(self.extractor_vendor, self.extractor_model)

    @property
    def share(self) -> float:
        """The probability with which a key is given to it."""
        return self.share_hi - self.share_lo


@dataclass(frozen=True)
class Recommendation:
    """What is published for a template; never changes under its `snapshot_id`. Arms most probably best first."""

    snapshot_id: UUID
    template_id: UUID
    template: str
    objective: str
    decision: str
    reason: str
    recommended: Extractor
    is_overridden: bool
    incumbent: Extractor | None
    cheapest: Extractor | None
    value_remaining: float
    evidence_to: date
    arms: Sequence[Arm]


class Choice(NamedTuple):
    """One extractor for one decision.

    Attributes:
        propensity: the probability with which this mode chooses it; what a pipeline sends with its record.
        assigned_by: `share`, or `override` for what no share decided: such records are of no use for estimating what
            another extractor would have done.
    """

    arm: Arm
    propensity: float
    assigned_by: Literal["share", "override"]

    def as_dict(self, recommendation: Recommendation) -> dict[str, object]:
        """For scripts and over HTTP: the choice, what it rests on, and every extractor."""
        return {
            "extractor_vendor": self.arm.extractor_vendor,
            "extractor_model": self.arm.extractor_model,
            "propensity": self.propensity,
            "assigned_by": self.assigned_by,
            "snapshot_id": recommendation.snapshot_id,
            "decision": recommendation.decision,
            "reason": recommendation.reason,
            "objective": recommendation.objective,
            "evidence_to": recommendation.evidence_to,
            "value_remaining": recommendation.value_remaining,
            "incumbent": _named(recommendation.incumbent),
            "cheapest": _named(recommendation.cheapest),
            "extractors": [arm._asdict() | {"share": arm.share} for arm in recommendation.arms],
        }


def choose(recommendation: Recommendation, mode: Mode, unit: float | None = None) -> Choice:
    """Choose an extractor.

    Args:
        recommendation: of one template.
        mode: `best` takes the recommended one, `sample` each with its share: the law of Thompson sampling, with a
            floor, and with a propensity that is known exactly.
        unit: for `sample`, a number in [0, 1): a key's `unit_of`, so that a key always gets the same, or a draw.
    """
    if mode == "best" or recommendation.is_overridden:
        [arm] = [arm for arm in recommendation.arms if arm.extractor == recommendation.recommended]
        return Choice(arm, 1.0, "override")
    if unit is None or not 0 <= unit < 1:
        raise ValueError(f"mode 'sample' needs a number in [0, 1), not {unit}")
    # The bounds tile [0, 1) without a gap.
    arm = next(arm for arm in recommendation.arms if arm.share_lo <= unit < arm.share_hi)
    return Choice(arm, arm.share, "share")


def unit_of(recommendation: Recommendation, key: str) -> float:
    """Where a key falls in [0, 1), as `marts.share_of_key` has it in SQL."""
    # The command line has this module's names at hand whatever it is asked; numpy only where a key is.
    from assets.selection.shares import unit_interval

    return unit_interval(recommendation.template_id, key)


def _named(extractor: Extractor | None) -> str | None:
    return None if extractor is None else str(extractor)
