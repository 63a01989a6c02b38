"""Promises of the decision on a template: every rule, its bounds, their order, and the numbers in the reason."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.selection.decisions import Arm, Change, DecisionError, Rules, Template, decide

A, B, C = "acme/a", "acme/b", "acme/c"


def arm(name: str, p_best: float, mean: float = 0.9, n: int = 500, change: Change | None = None) -> Arm:
    return Arm(name, n, mean, p_best, change)


def template(*arms: Arm, remaining: float = 0.05, **options: object) -> Template:
    return Template(arms, remaining, **options)  # type: ignore[arg-type]


FELL = Change(1, 6, 0.92, 0.71)
ROSE = Change(0, 3, 0.6, 0.9)

CASES: dict[str, tuple[Template, str, str, list[str]]] = {
    # name: template, decision, recommended, what the reason names
    "a clear best, in use another": (
        template(arm(A, 0.04, 0.88), arm(B, 0.96, 0.93), incumbent=0, remaining=0.0),
        "promote", B, [B, "96.0 %", "93.0 %", "500", "88.0 %", A, "5.0 points", "1.0 points"],
    ),
    "P(best) on its bound": (template(arm(A, 0.05, 0.88), arm(B, 0.95, 0.93), incumbent=0), "promote", B, ["95.0 %"]),
    "P(best) below its bound": (
        template(arm(A, 0.0501, 0.88), arm(B, 0.9499, 0.93), incumbent=0), "explore", A, ["94.99 %", "95.0 %", "5.0 %"],
    ),
    "a gain on its bound": (template(arm(A, 0.03, 0.29), arm(B, 0.97, 0.3), incumbent=0), "promote", B, ["1.0 points"]),
    "a gain below its bound": (
        template(arm(A, 0.03, 0.2902), arm(B, 0.97, 0.3), incumbent=0), "keep", A, ["0.98 points", "1.0 points", B],
    ),
    "none in use": (
        template(arm(A, 0.97, 0.9), arm(B, 0.03, 0.897)), "promote", A, ["Adopt", "97.0 %", "none is in use"],
    ),
    "none in use, undecided": (template(arm(A, 0.6), arm(B, 0.4)), "explore", A, ["60.0 %"]),
    "the clear best is in use": (template(arm(A, 0.98), arm(B, 0.02), incumbent=0), "keep", A, ["98.0 %", "already"]),
    "the leader's feedback on its bound": (
        template(arm(A, 0.03, 0.8), arm(B, 0.97, n=30), incumbent=0), "promote", B, ["30 feedbacks"],
    ),
    "the leader's feedback below its bound": (
        template(arm(A, 0.03, 0.8), arm(B, 0.97, n=29), incumbent=0), "insufficient", A, [f"{B} has 29", "30"],
    ),
    "the incumbent's feedback below its bound": (
        template(arm(A, 0.03, 0.8, n=12), arm(B, 0.97), incumbent=0), "insufficient", A, [f"{A} has 12", "30"],
    ),
    "another's feedback does not matter": (
        template(arm(A, 0.01, 0.8), arm(B, 0.97), arm(C, 0.02, n=0), incumbent=0), "promote", B, [],
    ),
    "nothing fed back": (template(arm(A, 0.5, n=0), arm(B, 0.5, n=0)), "insufficient", A, [f"{A} has 0"]),
    "a single arm": (template(arm(A, 1.0), remaining=0.0, incumbent=0), "keep", A, ["100.0 %"]),
    "a single arm, none in use": (template(arm(A, 1.0), remaining=0.0), "promote", A, ["Adopt"]),
    "value remaining on its bound": (
        template(arm(A, 0.6), arm(B, 0.4), remaining=0.01), "stop", A, ["1.0 %", f"Take {A}"],
    ),
    "value remaining above its bound": (template(arm(A, 0.6), arm(B, 0.4), remaining=0.0101), "explore", A, ["1.01 %"]),
    "a tie of which one is in use": (
        template(arm(A, 0.4, 0.9), arm(B, 0.6, 0.905), incumbent=0, remaining=0.008), "stop", A, ["0.8 %", f"Take {A}"],
    ),
    "a tie of two that are better than the one in use": (
        template(arm(A, 0.0, 0.7), arm(B, 0.55, 0.91), arm(C, 0.45, 0.909), incumbent=0, remaining=0.008),
        "stop", B, [f"Take {B}"],
    ),
    "unequal feedback": (
        template(arm(A, 0.6, n=10_000), arm(B, 0.4, n=499), incumbent=0),
        "insufficient", A, [B, "40.0 %", "499", "10000", "5.0 %"],
    ),
    "feedback just equal enough": (template(arm(A, 0.6, n=10_000), arm(B, 0.4, n=500), incumbent=0), "explore", A, []),
    "unequal feedback of one that can hardly be the best": (
        template(arm(A, 0.6, n=10_000), arm(B, 0.351, n=600), arm(C, 0.049, n=3), incumbent=0), "explore", A, [],
    ),
    "unequal feedback of one that may just be the best": (
        template(arm(A, 0.6, n=10_000), arm(B, 0.35, n=600), arm(C, 0.05, n=3), incumbent=0),
        "insufficient", A, [C, "3"],
    ),
    "nobody can be told from anybody": (
        template(*(arm(f"acme/{i}", 0.04, n=40) for i in range(25)), incumbent=3), "explore", "acme/3", ["4.0 %"],
    ),
    "a change of the one in use for the worse": (
        template(arm(A, 0.2, change=FELL), arm(B, 0.8), incumbent=0),
        "alarm", B, [A, "92.0 %", "71.0 %", "6 days ago", "yesterday", B],
    ),
    "a change of the one in use for the better": (
        template(arm(A, 0.2, change=ROSE), arm(B, 0.8), incumbent=0), "alarm", A, ["60.0 %", "90.0 %", "today"],
    ),
    "a change of another": (
        template(arm(A, 0.2), arm(B, 0.8, change=FELL), incumbent=0), "alarm", A, [B, "Nothing is"],
    ),
    "a change of the one in use that still leads": (
        template(arm(A, 0.8, change=FELL), arm(B, 0.2), incumbent=0), "alarm", A, ["Nothing is switched"],
    ),
    "a change where none is in use": (template(arm(A, 0.2, change=FELL), arm(B, 0.8)), "alarm", B, [A]),
    "two changes": (
        template(arm(A, 0.5, change=FELL), arm(B, 0.5, change=ROSE)), "alarm", A, [A, B, "71.0 %", "60.0 %"],
    ),
    "a change noticed on the bound": (
        template(arm(A, 0.98, change=FELL._replace(noticed_days_ago=2))), "alarm", A, ["2 days ago"],
    ),
    "a change noticed before": (
        template(arm(A, 0.98, change=FELL._replace(noticed_days_ago=3)), incumbent=0), "keep", A, [],
    ),
    "less is better": (
        template(arm(A, 0.04, 0.12), arm(B, 0.96, 0.08), incumbent=0, minimise=True, rate="error rate"),
        "promote", B, ["4.0 points", "error rate"],
    ),
    "less is better and the one in use fell": (
        template(arm(A, 0.2, change=FELL), arm(B, 0.8), incumbent=0, minimise=True), "alarm", A, ["92.0 %", "71.0 %"],
    ),
    "a tie of the mean's side when less is better": (
        template(arm(A, 0.5, 0.3), arm(B, 0.5, 0.2), minimise=True, remaining=0.2), "explore", B, ["100 % less its"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_decision_the_recommendation_and_the_numbers_of_the_reason(case: str) -> None:
    given_template, decision, recommended, named = CASES[case]
    found = decide(given_template)
    assert (found.decision, given_template.arms[found.recommended].name) == (decision, recommended), found.reason
    for text in named:
        assert text in found.reason


def test_rules_hold_in_their_order() -> None:
    # Everything at once: each step takes away what decided.
    fresh = arm(B, 0.97, 0.93, n=40, change=FELL)
    everything = template(arm(A, 0.03, 0.9, n=10), fresh, incumbent=0, remaining=0.0)
    assert decide(everything).decision == "alarm"
    quiet = replace(everything, arms=[arm(A, 0.03, 0.9, n=10), fresh._replace(change=None)])
    assert decide(quiet).decision == "insufficient"
    fed = replace(quiet, arms=[arm(A, 0.03, 0.9, n=30_000), fresh._replace(change=None)])
    assert decide(fed).decision == "promote"
    near = replace(fed, arms=[arm(A, 0.03, 0.925, n=30_000), fresh._replace(change=None)])
    assert decide(near).decision == "keep"
    unclear = replace(near, arms=[arm(A, 0.3, 0.925, n=30_000), arm(B, 0.7, 0.93, n=40)])
    assert decide(unclear).decision == "stop"
    assert decide(replace(unclear, value_remaining=0.02)).decision == "insufficient"


@pytest.mark.parametrize("case", CASES)
def test_an_override_is_recommended_and_says_so_beside_the_decision_without_it(case: str) -> None:
    given_template = CASES[case][0]
    without, last = decide(given_template), len(given_template.arms) - 1
    found = decide(replace(given_template, override=last))
    assert (found.decision, found.recommended) == (without.decision, last)
    assert found.reason.startswith(f"An override sets {given_template.arms[last].name}")
    assert without.reason in found.reason


changes = st.none() | st.builds(Change, st.integers(0, 5), st.integers(0, 9), st.floats(0, 1), st.floats(0, 1))
arms = st.builds(Arm, st.sampled_from([A, B, C]), st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1), changes)


@given(st.lists(arms, min_size=1, max_size=6), st.floats(0, 10), st.data(), st.booleans())
def test_whatever_is_known_there_is_one_decision_with_a_reason_and_names_in_any_order_decide_alike(
    known: list[Arm], remaining: float, data: st.DataObject, minimise: bool
) -> None:
    known = [
        arm._replace(name=f"{arm.name}{index}", p_best=arm.p_best - index / 1e3) for index, arm in enumerate(known)
    ]
    incumbent = data.draw(st.none() | st.integers(0, len(known) - 1))
    found = decide(Template(known, remaining, incumbent, minimise=minimise))
    assert found.reason
    order = data.draw(st.permutations(range(len(known))))
    place = None if incumbent is None else order.index(incumbent)
    again = decide(Template([known[i] for i in order], remaining, place, minimise=minimise))
    assert again.decision == found.decision
    if len({arm.p_best for arm in known}) == len(known):
        assert order[again.recommended] == found.recommended


def test_bounds_are_arguments() -> None:
    strict = Rules(p_best=0.99, tolerance=0.1, feedback_count=1000)
    assert decide(template(arm(A, 0.96), arm(B, 0.04)), strict).decision == "insufficient"
    assert "1000" in decide(template(arm(A, 0.96), arm(B, 0.04)), strict).reason


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (template(), "without extractors"),
        (template(arm(A, 1.0), incumbent=1), "incumbent 1"),
        (template(arm(A, 1.0), override=-1), "override -1"),
        (template(arm(A, 1.0), remaining=float("nan")), "NaN"),
        (template(arm(A, float("nan"))), "NaN"),
    ],
)
def test_what_cannot_be_decided_is_refused_by_name(wrong: Template, message: str) -> None:
    with pytest.raises(DecisionError, match=message):
        decide(wrong)
