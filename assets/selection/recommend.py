"""Recommendations: one extractor for a template, from the stored posteriors of all its extractors.

Belongs here: the choice and its probability, pure. Does not belong here: the posteriors' mathematics (posteriors.py).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from storage.errors import ConflictError, UsageError

if TYPE_CHECKING:
    import numpy as np

Mode = Literal["best", "sample"]


class ArmPosterior(NamedTuple):
    """What is known of one extractor on one template; interval and mean of its success rate."""

    extractor_vendor: str
    extractor_model: str
    mean: float
    lower: float
    upper: float
    p_best: float
    success_count: int
    failure_count: int

    @property
    def feedback_count(self) -> int:
        """Evaluations whose outcome is known."""
        return self.success_count + self.failure_count


class Recommendation(NamedTuple):
    """The chosen extractor, the probability with which it was chosen, and all of them, most probably best first."""

    chosen: ArmPosterior
    propensity: float
    arms: tuple[ArmPosterior, ...]

    def as_dict(self) -> dict[str, object]:
        """For scripts and over HTTP: the choice, then every extractor with its probability of being best."""
        return {
            "extractor_vendor": self.chosen.extractor_vendor,
            "extractor_model": self.chosen.extractor_model,
            "propensity": self.propensity,
            "extractors": [arm._asdict() | {"feedback_count": arm.feedback_count} for arm in self.arms],
        }


def recommend(
    rows: Sequence[ArmPosterior], mode: Mode, generator: "np.random.Generator | None" = None
) -> Recommendation:
    """Choose an extractor.

    Args:
        rows: the posteriors of one template's extractors, in any order.
        mode: `best` takes the one most probably best (on ties the higher mean, then the name). `sample` takes each with
            its probability of being best: the law of Thompson sampling, whose propensity is thereby known exactly.
        generator: the random source of `sample`.

    Raises:
        ConflictError: nothing to choose from, or no feedback at all.
        UsageError: `sample` without a generator.
    """
    if not any(row.feedback_count for row in rows):
        raise ConflictError(
            "no feedback on this template's extractors yet. Send some (tidemark feedback FILE --tenant T), "
            "then run: tidemark refresh"
        )
    arms = tuple(sorted(rows, key=lambda row: (-row.p_best, -row.mean, row.extractor_vendor, row.extractor_model)))
    if mode == "best":
        return Recommendation(arms[0], 1.0, arms)
    if generator is None:
        raise UsageError("mode 'sample' draws at random and needs a generator")
    # The command line has this module's names at hand whatever it is asked; numpy only where something is drawn.
    import numpy as np

    shares = np.array([arm.p_best for arm in arms])
    shares /= shares.sum()
    chosen = int(generator.choice(len(arms), p=shares))
    return Recommendation(arms[chosen], float(shares[chosen]), arms)
