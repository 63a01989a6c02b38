"""Off-policy estimates: from sums as from decisions, right on average, and refused where the logs don't carry them."""

from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.selection.policy_value import (
    INTERVAL_Z,
    LoggedSums,
    PolicyValueError,
    PolicyValues,
    Refusal,
    policy_values,
)

Floats = npt.NDArray[np.float64]


def _sums(arms: npt.NDArray[np.int64], weights: Floats, rewards: Floats, count: int, eligible: Floats) -> LoggedSums:
    """The sums of decisions, each array of shape (templates, decisions).

    Args:
        arms: which was chosen; -1 for no decision.
        weights: the inverse of its propensity.
        rewards: how it turned out.
        count: of arms.
        eligible: shape (templates, decisions, arms), which were named; all of a decision 0 where none were.
    """
    chosen = (arms[..., None] == np.arange(count)).astype(float)
    taken = (arms >= 0).astype(float)[..., None]
    is_open = (eligible.sum(axis=2) == 0).astype(float)[..., None] * chosen
    named = eligible * taken

    def total(of: Floats, values: Floats) -> Floats:
        added: Floats = (of * values[..., None]).sum(axis=1)
        return added

    one = np.ones_like(weights)
    return LoggedSums(
        logged_count=total(chosen, one),
        weight_sum=total(chosen, weights),
        weight_sq_sum=total(chosen, weights**2),
        weight_max=(chosen * weights[..., None]).max(axis=1),
        reward_weight_sum=total(chosen, rewards * weights),
        reward_weight_sq_sum=total(chosen, rewards * weights**2),
        reward_sq_weight_sum=total(chosen, rewards**2 * weights),
        reward_sq_weight_sq_sum=total(chosen, rewards**2 * weights**2),
        open_count=total(is_open, one),
        open_reward_sum=total(is_open, rewards),
        open_reward_sq_sum=total(is_open, rewards**2),
        eligible_count=total(named, one),
        eligible_reward_sum=total(named, rewards),
        eligible_reward_sq_sum=total(named, rewards**2),
    )


ARMS = 3
_PROPENSITIES = np.array([0.5, 0.3, 0.2])


def _logs(
    rng: np.random.Generator, means: Floats, shape: tuple[int, int], shares: Floats = _PROPENSITIES, spread: float = 0.0
) -> LoggedSums:
    """Logs of many templates at once, each decision with its own propensities around the shares."""
    noise = rng.uniform(1 - spread, 1 + spread, (*shape, len(shares)))
    propensities = shares * noise / (shares * noise).sum(axis=2, keepdims=True)
    arms = (rng.random((*shape, 1)) > propensities.cumsum(axis=2)).sum(axis=2).clip(max=len(shares) - 1)
    rewards = (rng.random(shape) < means[arms]).astype(float)
    weights = 1 / np.take_along_axis(propensities, arms[..., None], axis=2)[..., 0]
    return _sums(arms, weights, rewards, len(shares), np.zeros((*shape, len(shares))))


decisions = st.lists(
    st.tuples(
        st.integers(0, ARMS - 1),
        st.floats(0.05, 1),
        st.floats(0, 1),
        st.none() | st.sets(st.integers(0, ARMS - 1)),
    ),
    min_size=100,
    max_size=300,
)


@settings(max_examples=40, deadline=None)
@given(decisions, st.lists(st.floats(0, 1), min_size=ARMS, max_size=ARMS))
def test_from_the_sums_comes_what_comes_from_the_decisions_one_by_one(
    logged: list[tuple[int, float, float, set[int] | None]], direct: list[float]
) -> None:
    arms, weights = np.array([[arm for arm, *_ in logged]]), np.array([[1 / p for _, p, *_ in logged]])
    rewards = np.array([[reward for _, _, reward, _ in logged]])
    eligible = np.zeros((1, len(logged), ARMS))
    for place, (arm, _, _, named) in enumerate(logged):
        for one in () if named is None else named | {arm}:
            eligible[0, place, one] = 1
    found = policy_values(_sums(arms, weights, rewards, ARMS, eligible), [direct])
    for arm in range(ARMS):
        could = (eligible[0].sum(axis=1) == 0) | (eligible[0, :, arm] == 1)
        w, r = np.where(arms[0] == arm, weights[0], 0)[could], rewards[0][could]
        if w.any():
            assert found.effective_sample_size[0, arm] == pytest.approx(w.sum() ** 2 / (w**2).sum())
            assert found.largest_weight_share[0, arm] == pytest.approx(w.max() / w.sum())
            assert (found.decisions[0, arm], found.on_policy[0, arm]) == pytest.approx((len(r), r.mean()))
        if found.refusal[0, arm] != Refusal.NONE:
            assert found.reason(0, arm)
            assert np.isnan([found.ips.value[0, arm], found.snips.gain_lower[0, arm], found.dr.upper[0, arm]]).all()
            continue
        value = (w * r).sum() / w.sum()
        for estimate, terms in (
            (found.ips, w * r),
            (found.snips, value + len(w) / w.sum() * w * (r - value)),
            (found.dr, direct[arm] + w * (r - direct[arm])),
        ):
            for got, of in (
                ((estimate.value, estimate.lower, estimate.upper), terms),
                ((estimate.gain, estimate.gain_lower, estimate.gain_upper), terms - r),
            ):
                reach = INTERVAL_Z * of.std(ddof=1) / np.sqrt(len(of))
                expected = of.mean(), of.mean() - reach, of.mean() + reach
                assert [bound[0, arm] for bound in got] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_estimates_are_right_on_average_and_their_intervals_cover_the_truth() -> None:
    means, replicates, count = np.array([0.7, 0.5, 0.85]), 1500, 1200
    sums = _logs(np.random.default_rng(6), means, (replicates, count), spread=0.5)
    found = policy_values(sums, np.broadcast_to([0.65, 0.5, 0.9], (replicates, ARMS)))
    assert (found.refusal == Refusal.NONE).mean() > 0.999
    on_policy = np.nanmean(found.on_policy)
    for estimate in (found.ips, found.snips, found.dr):
        for value, lower, upper, truth in (
            (estimate.value, estimate.lower, estimate.upper, means),
            (estimate.gain, estimate.gain_lower, estimate.gain_upper, means - on_policy),
        ):
            error = np.nanstd(value, axis=0) / np.sqrt(replicates)
            assert (np.abs(np.nanmean(value, axis=0) - truth) < 4 * error + 1e-3).all()
            covered = ((lower <= truth) & (truth <= upper)).mean(axis=0)
            assert ((covered > 0.93) & (covered < 0.97)).all(), covered
    # The better the direct model, the narrower the interval.
    assert np.nanmean(found.dr.upper - found.dr.lower) < 0.8 * np.nanmean(found.ips.upper - found.ips.lower)


def _refused(sums: LoggedSums, mask: npt.ArrayLike | None = None) -> PolicyValues:
    return policy_values(sums, np.full(sums.logged_count.shape, 0.5), mask)


def test_what_the_logs_do_not_carry_is_refused_with_the_reason() -> None:
    rng = np.random.default_rng(7)
    sums = _logs(rng, np.array([0.7, 0.5, 0.85]), (1, 1000), np.array([0.97, 0.03, 0.0]))
    mask = [[True, True, True]]
    found = _refused(sums, mask)
    assert found.refusal.tolist() == [[Refusal.NONE, Refusal.TOO_FEW, Refusal.NEVER_CHOSEN]]
    assert found.reason(0, 0) is None
    assert "at least 50" in (found.reason(0, 1) or "")
    assert "chosen in none of 1000 decisions" in (found.reason(0, 2) or "")
    assert _refused(sums, [[True, True, False]]).reason(0, 2) == "the template has no such extractor"

    nothing = LoggedSums(*(np.zeros((1, 1)) for _ in fields(LoggedSums)))
    assert "send propensity" in (_refused(nothing).reason(0, 0) or "")

    # 300 decisions with a propensity of 1/2, and one with 1/80.
    arms = np.array([[0, 1] * 300 + [0]])
    weights = np.where(np.arange(601) == 600, 80.0, 2.0)[None, :]
    one = _sums(arms, weights, np.ones((1, 601)), 2, np.zeros((1, 601, 2)))
    assert _refused(one).effective_sample_size[0, 0] > 50
    assert "one decision counts as 80 and has 12% of all weight" in (_refused(one).reason(0, 0) or "")


def test_an_arm_that_could_not_be_chosen_throughout_is_judged_where_it_could_or_not_at_all() -> None:
    rng, count = np.random.default_rng(8), 4000
    means = np.array([0.6, 0.8])
    # In the second half, in which outcomes are worse, the second arm was not eligible.
    listed = np.arange(count) < count // 2
    arms = np.where(listed & (rng.random(count) < 0.5), 1, 0)[None, :]
    rewards = (rng.random(count) < means[arms[0]] - 0.3 * ~listed).astype(float)[None, :]
    weights = np.where(listed, 2.0, 1.0)[None, :]
    eligible = np.stack([np.ones(count), listed.astype(float)], axis=1)[None, :, :]
    told = policy_values(_sums(arms, weights, rewards, 2, eligible), [[0.6, 0.8]])
    assert (told.decisions[0, 1], told.refusal[0, 1]) == (count // 2, Refusal.NONE)
    assert told.snips.lower[0, 1] < 0.8 < told.snips.upper[0, 1]
    assert told.snips.gain_lower[0, 1] < 0.1 < told.snips.gain_upper[0, 1]
    # Had nobody said so, half of the decisions would say that it was bad.
    untold = policy_values(_sums(arms, weights, rewards, 2, np.zeros_like(eligible)), [[0.6, 0.8]])
    assert untold.refusal[0].tolist() == [Refusal.NONE, Refusal.WEIGHTS_OFF]
    assert "eligible_extractors" in (untold.reason(0, 1) or "")


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("weight_sum", np.nan, "template 1, arm 2: weight_sum is nan"),
        ("reward_weight_sum", -0.5, "template 1, arm 2: reward_weight_sum is -0.5"),
        ("weight_sq_sum", 0.0, "template 1, arm 2: weight_sum is .* exceeds weight_sq_sum"),
        ("logged_count", 1e9, "template 1, arm 2: logged_count is 1e\\+09"),
        ("eligible_reward_sum", 1.0, "template 1, arm 2: eligible_reward_sum is 1"),
        ("open_count", np.inf, "template 1, arm 2: open_count is inf"),
    ],
)
def test_sums_that_no_decisions_can_have_are_refused_by_place_field_and_value(
    field: str, value: float, told: str
) -> None:
    sums = _logs(np.random.default_rng(9), np.array([0.7, 0.5, 0.85]), (2, 300))
    array = getattr(sums, field).copy()
    array[1, 2] = value
    broken = replace(sums, **{field: array})
    with pytest.raises(PolicyValueError, match=told):
        _refused(broken)
    _refused(broken, [[True] * 3, [True, True, False]])
