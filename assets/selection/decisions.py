"""What to do about a template's extractors, with the reason in words: one pure function over what was computed of them.

The first of these that holds is the decision:

1. `alarm`: a change of an arm's rate was noticed in the last 2 days. Nothing is promoted on evidence that just broke.
2. `insufficient`: the arm that is most probably best (the leader), or the incumbent, has fewer than 30 feedbacks.
3. `promote`: the leader is not the incumbent, P(best) >= 95 %, and its posterior mean is better than the incumbent's by
   the tolerance or more; without an incumbent, P(best) >= 95 % is enough, and promoting means adopting.
   The posterior mean and not another probability: that the leader is better is what P(best) says already; the mean says
   by how much, which is what a switch has to be worth.
4. `keep`: P(best) >= 95 % and the leader is the incumbent, or is better by less than the tolerance.
5. `stop`: the value remaining is at most 1 %: the arms that could be best are as good as each other.
6. `insufficient`: feedback is too unequal to go on from: of the arms whose P(best) is at least 5 %, one has less than a
   twentieth of the feedback of another.
7. `explore`: more feedback is worth having.

Recommended is the leader for `promote` and where there is no incumbent; for `stop` too if it is better than the
incumbent by the tolerance; for `alarm` too if it is the incumbent whose rate got worse. Otherwise it is the incumbent.
An override is recommended whatever the decision, which is still made and told.

Belongs here: decisions and their words. Does not belong here: the numbers (best.py), incumbents and overrides as they
are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Literal, NamedTuple

from assets.selection.best import TIE_DIGITS
from storage.errors import TidemarkError

Kind = Literal["promote", "keep", "explore", "stop", "insufficient", "alarm"]

_ROUNDING = 1e-12
_MOST_DIGITS = 9


class DecisionError(TidemarkError):
    """A template of which nothing can be decided: no arms, NaN, or an incumbent or override that is none of them."""


@dataclass(frozen=True)
class Rules:
    """Bounds of the decisions; rates and probabilities in [0, 1]."""

    p_best: float = 0.95
    tolerance: float = 0.01
    feedback_count: int = 30
    value_remaining: float = 0.01
    alarm_days: int = 2
    contender_p_best: float = 0.05
    least_feedback_ratio: float = 1 / 20


class Change(NamedTuple):
    """A change of an arm's rate: whole days since it was noticed and since it began, the rate before and after it.

    What counts is when it was noticed: a slow change may have begun long before anything could be seen of it.
    """

    noticed_days_ago: int
    began_days_ago: int
    before: float
    after: float


class Arm(NamedTuple):
    """What is known of one extractor; `name` as people read it (vendor/model), `change` the newest."""

    name: str
    feedback_count: int
    mean: float
    p_best: float
    change: Change | None = None


@dataclass(frozen=True)
class Template:
    """What is decided about.

    Attributes:
        arms: its extractors, in any order.
        value_remaining: from best.py.
        incumbent: the index of the arm in use, if any.
        override: the index of the arm that somebody has set, if any.
        rate: what the arms' rates are, for the reason.
        minimise: whether the smallest rate is the best.
    """

    arms: Sequence[Arm]
    value_remaining: float
    incumbent: int | None = None
    override: int | None = None
    rate: str = "success rate"
    minimise: bool = False


class Decision(NamedTuple):
    """The decision, the index of the recommended arm, and why."""

    decision: Kind
    recommended: int
    reason: str


DEFAULT_RULES = Rules()


def decide(template: Template, rules: Rules = DEFAULT_RULES) -> Decision:
    """The decision on one template, by the module's rules in their order.

    Raises:
        DecisionError: there are no arms, or the incumbent or the override is none of them.
    """
    _refuse_impossible(template)
    view = _View(template, rules)
    found = view.alarm() or view.too_little() or view.clear() or view.stop() or view.unequal() or view.explore()
    if template.override is None:
        return found
    name = template.arms[template.override].name
    return Decision(
        found.decision,
        template.override,
        f"An override sets {name}, whatever the feedback says. Without it: {found.reason}",
    )


class _View:
    """One template as its rules look at it."""

    def __init__(self, template: Template, rules: Rules) -> None:
        self.template, self.rules, self.arms = template, rules, template.arms
        self.better = -1.0 if template.minimise else 1.0
        # As best.py has it.
        self.leading = max(
            range(len(self.arms)),
            key=lambda arm: (round(self.arms[arm].p_best, TIE_DIGITS), self.better * self.arms[arm].mean),
        )
        self.leader = self.arms[self.leading]
        self.incumbent = None if template.incumbent is None else self.arms[template.incumbent]
        self.in_use = self.leading if template.incumbent is None else template.incumbent

    @property
    def gain(self) -> float:
        """By how much the leader's posterior mean is better than the incumbent's; positive is better."""
        return 0.0 if self.incumbent is None else self.better * (self.leader.mean - self.incumbent.mean)

    @property
    def is_worth_a_switch(self) -> bool:
        return self.incumbent is not None and self.gain >= self.rules.tolerance - _ROUNDING

    @property
    def scale(self) -> str:
        """What the value remaining is a part of: when minimising, of the complement (best.py)."""
        return f"100 % less its {self.template.rate}" if self.template.minimise else f"its {self.template.rate}"

    def alarm(self) -> Decision | None:
        fresh = [
            (arm, arm.change)
            for arm in self.arms
            if arm.change is not None and arm.change.noticed_days_ago <= self.rules.alarm_days
        ]
        if not fresh:
            return None
        told = "; ".join(
            f"{arm.name} went from {_percent(change.before)} to {_percent(change.after)} "
            f"{_days_ago(change.began_days_ago)}, noticed {_days_ago(change.noticed_days_ago)}"
            for arm, change in fresh
        )
        fell = any(arm is self.incumbent and self.better * (change.after - change.before) < 0 for arm, change in fresh)
        switch = fell and self.leading != self.template.incumbent
        advice = (
            f"The extractor in use got worse: until more is known, {self.leader.name} is most probably the best."
            if switch
            else "Nothing is switched on evidence that has just changed: look at it."
        )
        return Decision(
            "alarm", self.leading if switch else self.in_use, f"The {self.template.rate} changed: {told}. {advice}"
        )

    def too_little(self) -> Decision | None:
        wanted = self.rules.feedback_count
        compared = [self.arms[index] for index in dict.fromkeys((self.leading, self.in_use))]
        short = [f"{arm.name} has {arm.feedback_count}" for arm in compared if arm.feedback_count < wanted]
        if not short:
            return None
        whom = "most probable best" if self.incumbent is None else "most probable best and of the one in use"
        return Decision(
            "insufficient",
            self.in_use,
            f"Too little feedback to judge by: {' and '.join(short)}, at least {wanted} are needed of the {whom}.",
        )

    def clear(self) -> Decision | None:
        if self.leader.p_best < self.rules.p_best:
            return None
        sure = f"{self.leader.name} is the best with a probability of {_percent(self.leader.p_best, self.rules.p_best)}"
        means = f"{self.template.rate} {_percent(self.leader.mean)} from {self.leader.feedback_count} feedbacks"
        if self.incumbent is None:
            return Decision("promote", self.leading, f"Adopt it: {sure} ({means}), and none is in use yet.")
        if self.leading == self.template.incumbent:
            return Decision("keep", self.leading, f"{sure} ({means}), and it is in use already.")
        against = (
            f"against {_percent(self.incumbent.mean)} from {self.incumbent.feedback_count} of {self.incumbent.name}, "
            f"which is in use: better by {_points(self.gain, self.rules.tolerance)}"
        )
        if self.is_worth_a_switch:
            least = _points(self.rules.tolerance)
            return Decision("promote", self.leading, f"{sure} ({means}) {against}, and {least} are asked for.")
        return Decision(
            "keep",
            self.in_use,
            f"{sure} ({means}) {against}, less than the {_points(self.rules.tolerance)} that a switch must be worth.",
        )

    def stop(self) -> Decision | None:
        remaining, most = self.template.value_remaining, self.rules.value_remaining
        if remaining > most:
            return None
        switch = self.incumbent is None or self.is_worth_a_switch
        chosen = self.leading if switch else self.in_use
        return Decision(
            "stop",
            chosen,
            f"There is next to nothing left to gain by trying on: with 95 % probability no extractor is better than "
            f"{self.leader.name} by more than {_percent(remaining, most)} of {self.scale} (trying ends at "
            f"{_percent(most)}). Take {self.arms[chosen].name} and end the trial.",
        )

    def unequal(self) -> Decision | None:
        contenders = [arm for arm in self.arms if arm.p_best >= self.rules.contender_p_best]
        most = max(contenders, key=lambda arm: arm.feedback_count, default=self.leader)
        least = min(contenders, key=lambda arm: arm.feedback_count, default=self.leader)
        if least.feedback_count >= self.rules.least_feedback_ratio * most.feedback_count:
            return None
        return Decision(
            "insufficient",
            self.in_use,
            f"Feedback is too unequal to compare: {least.name} may be the best ({_percent(least.p_best)}) and has "
            f"{_feedbacks(least.feedback_count)}, {most.name} has {most.feedback_count}: at least "
            f"{_percent(self.rules.least_feedback_ratio)} of that is needed. Send {least.name} more documents, or "
            "retire it.",
        )

    def explore(self) -> Decision:
        return Decision(
            "explore",
            self.in_use,
            f"Undecided: {self.leader.name} is the best with a probability of "
            f"{_percent(self.leader.p_best, self.rules.p_best)} ({_percent(self.rules.p_best)} are needed), and with "
            "95 % probability another is better by at most "
            f"{_percent(self.template.value_remaining, self.rules.value_remaining)} of {self.scale} (trying ends at "
            f"{_percent(self.rules.value_remaining)}). Keep sending each extractor its share.",
        )


def _percent(value: float, bound: float | None = None) -> str:
    """A percentage, with as many digits as it takes to be seen on its side of the bound."""
    return f"{_digits(100 * value, None if bound is None else 100 * bound)} %"


def _points(value: float, bound: float | None = None) -> str:
    return f"{_digits(100 * value, None if bound is None else 100 * bound)} points"


def _digits(value: float, bound: float | None) -> str:
    shown = f"{value:.1f}"
    for digits in range(2, _MOST_DIGITS):
        if bound is None or abs(value - bound) <= 100 * _ROUNDING or (float(shown) - bound) * (value - bound) > 0:
            break
        shown = f"{value:.{digits}f}"
    return shown


def _feedbacks(count: int) -> str:
    return "1 feedback" if count == 1 else f"{count} feedbacks"


def _days_ago(days: int) -> str:
    return {0: "today", 1: "yesterday"}.get(days, f"{days} days ago")


def _refuse_impossible(template: Template) -> None:
    if not template.arms:
        raise DecisionError("nothing can be decided about a template without extractors: leave it out")
    numbers = [template.value_remaining, *(number for arm in template.arms for number in (arm.mean, arm.p_best))]
    if any(isnan(number) for number in numbers):
        raise DecisionError("value_remaining, mean or p_best is NaN: decide only about arms that exist")
    for name, index in (("incumbent", template.incumbent), ("override", template.override)):
        if index is not None and not 0 <= index < len(template.arms):
            raise DecisionError(
                f"{name} {index} is none of the template's {len(template.arms)} extractors: name one or none"
            )
