"""Learning from daily sums: what no evidence, order or layout may change, and what changes and priors promise."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from assets.selection.changes import find_changes
from assets.selection.evidence import DailySums, EvidenceError, FieldSums, document_worth
from assets.selection.learning import (
    FROM_BEFORE,
    FROM_PREDECESSOR,
    HALF_LIFE_DAYS,
    WEIGHT_OF_PREDECESSOR,
    Learnt,
    learn,
)
from assets.selection.priors import FROM_CORRELATED, FROM_UNIFORM, priors
from assets.selection.watch import THRESHOLD, Watch

Floats = npt.NDArray[np.float64]


def successes(good: npt.ArrayLike, bad: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> DailySums:
    good, bad = np.asarray(good, dtype=float), np.asarray(bad, dtype=float)
    exists = np.ones(good.shape[:2], dtype=bool) if mask is None else np.asarray(mask)
    return DailySums(exists, good, bad, np.zeros(len(good), dtype=bool))


def one_tenant(daily: DailySums) -> npt.NDArray[np.int64]:
    return np.zeros(len(daily.mask), dtype=np.int64)


def documents(generator: np.random.Generator, rates: Floats, days: int, lengths: int, correlation: float) -> FieldSums:
    """Field sums of one document a day, of beta-binomial documents; rates of shape (templates, arms)."""
    shape = (*rates.shape, days)
    mean = np.broadcast_to(rates[..., None], shape)
    if correlation:
        spread = (1 - correlation) / correlation
        mean = generator.beta(mean * spread, (1 - mean) * spread)
    right = generator.binomial(lengths, mean).astype(float)
    rate = right / lengths
    return FieldSums(np.ones(shape), rate, rate**2, right, np.full(shape, float(lengths)))


def by_fields(sums: FieldSums) -> DailySums:
    nothing = np.zeros(sums.rate_sum.shape)
    templates, arms, _ = nothing.shape
    return DailySums(np.ones((templates, arms), dtype=bool), nothing, nothing, np.ones(templates, dtype=bool), sums)


@st.composite
def feedback(draw: st.DrawFn) -> DailySums:
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 12)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = generator.poisson(draw(st.sampled_from([0.3, 2.0, 30.0])), shape)
    good = generator.binomial(count, generator.uniform(0, 1, (*shape[:2], 1)))
    mask = generator.random(shape[:2]) < draw(st.sampled_from([0.7, 1.0]))
    return successes(good, count - good, mask)


def arrays(learnt: Learnt) -> list[npt.NDArray[np.generic]]:
    columns = [getattr(learnt, name) for name in ("alpha", "beta", "prior_alpha", "prior_beta", "effective_count")]
    changed = [value for value in vars(learnt.changes).values() if isinstance(value, np.ndarray)]
    return [*columns, learnt.prior_source, *changed]


@settings(deadline=None, max_examples=60)
@given(feedback(), st.data())
def test_one_more_success_never_lowers_its_own_arms_mean(daily: DailySums, data: st.DataObject) -> None:
    template, arm, day = (data.draw(st.integers(0, size - 1)) for size in daily.success_count.shape)
    more = daily.success_count.copy()
    more[template, arm, day] += 1
    groups = one_tenant(daily)
    before, after = learn(daily, groups), learn(replace(daily, success_count=more), groups)
    same = (getattr(before.changes, name) == getattr(after.changes, name) for name in ("restart_day", "void"))
    if daily.mask[template, arm] and all(each.all() for each in same):
        mean_before, mean_after = (x.alpha / (x.alpha + x.beta) for x in (before, after))
        assert mean_after[template, arm] >= mean_before[template, arm] - 1e-12


@settings(deadline=None, max_examples=40)
@given(feedback(), st.randoms(use_true_random=False))
def test_the_order_of_templates_and_arms_means_nothing(daily: DailySums, random: object) -> None:
    templates, arms, _ = daily.success_count.shape
    rows, columns = (np.array(random.sample(range(n), n)) for n in (templates, arms))  # type: ignore[attr-defined]
    groups, ids = np.arange(templates) % 2, np.tile(np.arange(arms), (templates, 1))
    turned = DailySums(
        daily.mask[rows][:, columns],
        daily.success_count[rows][:, columns],
        daily.failure_count[rows][:, columns],
        daily.by_fields[rows],
    )
    straight, mixed = learn(daily, groups, ids), learn(turned, groups[rows], ids[rows][:, columns])
    for one, other in zip(arrays(straight), arrays(mixed), strict=True):
        np.testing.assert_allclose(one[rows][:, columns], other, rtol=1e-7, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(feedback())
def test_the_same_sums_give_the_same_bytes_and_arms_that_do_not_exist_change_nothing(daily: DailySums) -> None:
    noise = np.where(daily.mask[..., None], 0.0, 7.0)
    other = replace(daily, success_count=daily.success_count + noise)
    groups = one_tenant(daily)
    for one, same, masked in zip(*(arrays(learn(x, groups)) for x in (daily, daily, other)), strict=True):
        assert one.tobytes() == same.tobytes() == masked.tobytes()
    learnt = learn(daily, groups)
    assert (np.isfinite(learnt.alpha) == daily.mask).all()
    assert (learnt.prior_alpha[daily.mask] >= 0.1).all()
    assert (learnt.prior_beta[daily.mask] >= 0.1).all()


@pytest.mark.parametrize("objective", ["success", "fields"])
def test_a_rebuild_from_all_days_finds_what_each_day_found(objective: str) -> None:
    generator = np.random.default_rng(11)
    rates = np.repeat(generator.uniform(0.6, 0.9, (3, 3))[..., None], 60, axis=2)
    rates[0, 0, 30:] -= 0.5
    good = generator.binomial(20, rates)
    daily = successes(good, 20 - good)
    if objective == "fields":
        share = good / 20
        days = np.ones(share.shape)
        daily = by_fields(FieldSums(20 * days, 20 * share, 20 * share, 200 * share, 200 * days))
    groups = np.array([0, 0, 1])
    for day in range(20, 60, 3):
        until = learn(cut(daily, day), groups).changes
        of_all = learn(daily, groups).changes
        known = (of_all.alarm_day >= 0) & (of_all.alarm_day < day)
        assert (until.restart_day[known] == of_all.restart_day[known]).all()
        assert (until.alarm_day >= 0).sum() == known.sum()
    assert of_all.restart_day[0, 0] == pytest.approx(30, abs=2)
    assert (of_all.restart_day >= 0).sum() == 1


def cut(daily: DailySums, days: int) -> DailySums:
    fields = daily.fields and FieldSums(**{name: values[..., :days] for name, values in vars(daily.fields).items()})
    return replace(
        daily,
        success_count=daily.success_count[..., :days],
        failure_count=daily.failure_count[..., :days],
        fields=fields,
    )


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("count", [8, 100])
def test_intervals_from_fields_of_a_document_cover_the_truth(correlation: float, rate: float, count: int) -> None:
    generator = np.random.default_rng(3)
    rates = np.full((150, 4), rate)
    daily = by_fields(documents(generator, rates, count, 20, correlation))
    sums = daily.fields
    assert sums is not None
    worth = document_worth(sums, np.arange(150) // 10)[..., -1]
    good = 1 + worth * sums.rate_sum.sum(axis=2)
    bad = 1 + worth * (count - sums.rate_sum.sum(axis=2))
    inside = (special.betaincinv(good, bad, 0.025) <= rate) & (rate <= special.betaincinv(good, bad, 0.975))
    assert 0.91 <= inside.mean() <= 0.99
    naive = 1 + sums.fields_correct.sum(axis=2), 1 + (sums.fields_total - sums.fields_correct).sum(axis=2)
    missed = (special.betaincinv(*naive, 0.025) > rate) | (rate > special.betaincinv(*naive, 0.975))
    assert correlation == 0 or missed.mean() > 0.3


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_documents_that_are_all_right_or_all_wrong_are_worth_something_finite(share: float) -> None:
    for days in (1, 2, 50):
        shape = (1, 1, days)
        ones = np.ones(shape)
        worth = document_worth(FieldSums(ones, share * ones, share * ones, 9 * share * ones, 9 * ones), [0])
        assert ((worth >= 1) & (worth <= 9)).all()


def test_a_drop_of_one_arm_restarts_it_alone_and_before_weighs_two() -> None:
    generator = np.random.default_rng(5)
    rates = np.full((1, 4, 80), 0.85)
    rates[0, 1, 50:] = 0.55
    good = generator.binomial(30, rates)
    learnt = learn(successes(good, 30 - good), [0])
    assert learnt.changes.restart_day.tolist()[0] == [-1, pytest.approx(50, abs=2), -1, -1]
    assert learnt.changes.alarm_day[0, 1] <= 56
    assert learnt.changes.statistic[0, 1] >= THRESHOLD == learnt.changes.threshold
    assert learnt.changes.rate_before[0, 1] == pytest.approx(0.85, abs=0.03)
    assert learnt.changes.rate_after[0, 1] == pytest.approx(0.55, abs=0.06)
    assert learnt.prior_source[0, 1] == FROM_BEFORE
    assert learnt.prior_alpha[0, 1] + learnt.prior_beta[0, 1] == pytest.approx(2)
    assert learnt.alpha[0, 1] / (learnt.alpha + learnt.beta)[0, 1] == pytest.approx(0.55, abs=0.06)


def test_a_drop_that_passes_is_taken_back_and_its_days_are_void() -> None:
    generator = np.random.default_rng(12)
    rates = np.full((30, 2, 70), 0.85)
    rates[:, 0, 50:53] = 0.4
    good = generator.binomial(60, rates)
    daily, groups = successes(good, 60 - good), np.arange(30)
    during, after = learn(cut(daily, 53), groups), learn(daily, groups)
    assert (during.changes.restart_day[:, 0] >= 50).mean() > 0.9
    assert (after.changes.restart_day < 0).all()
    assert (after.changes.alarm_day < 0).all()
    days = after.changes.void[:, 0].sum(axis=0)
    assert days[50:53].min() >= 27
    assert days.sum() <= days[50:53].sum() + 3
    assert after.changes.void[:, 1].any(axis=1).sum() <= 1
    mean = after.alpha / (after.alpha + after.beta)
    np.testing.assert_allclose(mean[:, 0], 0.85, atol=0.03)
    assert (after.effective_count[:, 0] > 55 * 60).all()


def test_a_drop_that_stays_is_hardly_ever_taken_back() -> None:
    generator = np.random.default_rng(13)
    rates = np.full((200, 2, 90), 0.85)
    rates[:, 0, 50:] = 0.6
    good = generator.binomial(10, rates)
    changes = learn(successes(good, 10 - good), np.arange(200)).changes
    assert (changes.restart_day[:, 0] >= 40).mean() > 0.95
    assert changes.void[:, 0].any(axis=1).mean() < 0.1


def test_what_all_arms_share_restarts_none() -> None:
    generator = np.random.default_rng(6)
    days, shape = np.arange(120), (12, 4, 120)
    rates = generator.uniform(0.6, 0.95, (12, 4, 1)) + np.zeros(shape)
    shock = np.where((days >= 70) & (days < 73), -0.3, 0.0)
    weekend = np.where(days % 7 >= 5, -0.1, 0.0)
    for what in (shock, weekend):
        good = generator.binomial(60, rates + what).astype(float)
        assert (find_changes(good, 60 - good, np.arange(12)).restart_day >= 0).sum() <= 1


def test_arms_that_never_change_hardly_ever_restart() -> None:
    generator = np.random.default_rng(7)
    rates = np.broadcast_to(generator.uniform(0.05, 0.99, (60, 5))[..., None], (60, 5, 200))
    counts = generator.poisson(np.broadcast_to(np.array([1, 5, 20, 100, 500])[None, :, None], rates.shape))
    good = generator.binomial(counts, rates).astype(float)
    assert (find_changes(good, counts - good, np.arange(60)).restart_day >= 0).sum() <= 12  # of 60,000 arm-days


def test_an_arm_that_is_played_no_more_drifts_back_to_its_prior() -> None:
    good = np.zeros((1, 1, 1 + int(HALF_LIFE_DAYS)))
    bad = good.copy()
    bad[0, 0, 0] = 40
    learnt = learn(successes(good, bad), [0])
    assert learnt.effective_count[0, 0] == pytest.approx(20)
    assert learnt.beta[0, 0] == pytest.approx(21)


def test_a_new_version_begins_at_its_predecessors_mean_with_a_capped_weight() -> None:
    good, bad = np.array([[[90.0], [0.0], [0.0]]]), np.array([[[10.0], [0.0], [0.0]]])
    learnt = learn(successes(good, bad), [0], predecessors=[[-1, 0, 1]])
    mean = learnt.alpha[0, 0] / (learnt.alpha + learnt.beta)[0, 0]
    for arm in (1, 2):
        assert learnt.prior_alpha[0, arm] == pytest.approx(WEIGHT_OF_PREDECESSOR * mean)
        assert learnt.prior_beta[0, arm] == pytest.approx(WEIGHT_OF_PREDECESSOR * (1 - mean))
        assert learnt.prior_source[0, arm] == FROM_PREDECESSOR


def test_other_templates_of_the_tenant_say_which_arm_is_good_and_those_of_others_say_nothing() -> None:
    generator = np.random.default_rng(8)
    logits = generator.normal(0, 0.8, (20, 1)) + np.array([1.5, 0.5, -0.5])
    good = generator.binomial(200, special.expit(logits)).astype(float)
    bad = 200 - good
    good[0] = bad[0] = 0
    mask, ids = np.ones((20, 3), dtype=bool), np.tile([0, 1, 2], (20, 1))
    together = priors(good, bad, mask, np.zeros(20), ids)
    mean = together.alpha / (together.alpha + together.beta)
    assert (together.source == FROM_CORRELATED).all()
    assert mean[0, 0] > mean[0, 1] + 0.05 > mean[0, 2] + 0.1
    alone = priors(good, bad, mask, np.arange(20), ids)
    assert alone.source[0].tolist() == [FROM_UNIFORM] * 3
    assert alone.alpha[0].tolist() == alone.beta[0].tolist() == [1, 1, 1]


def test_an_arms_own_feedback_is_never_in_its_own_prior() -> None:
    generator = np.random.default_rng(9)
    good, bad = generator.integers(0, 40, (2, 6, 4)).astype(float)
    mask, ids = np.ones((6, 4), dtype=bool), np.tile(np.arange(4), (6, 1))
    before = priors(good, bad, mask, np.zeros(6), ids)
    good[2, 1], bad[2, 1] = good[2, 1] + 500, bad[2, 1] + 20
    after = priors(good, bad, mask, np.zeros(6), ids)
    assert after.alpha[2, 1] == pytest.approx(before.alpha[2, 1], rel=1e-6)
    assert after.beta[2, 1] == pytest.approx(before.beta[2, 1], rel=1e-6)
    assert not np.allclose(after.alpha[3], before.alpha[3])


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_impossible_sums_are_refused_by_template_arm_day_and_field(wrong: float) -> None:
    good = np.ones((2, 2, 3))
    bad = good.copy()
    bad[1, 0, 2] = wrong
    with pytest.raises(EvidenceError, match=r"failure_count .* of template 1, arm 0, day 2"):
        learn(successes(good, bad), [0, 0])
    learn(successes(good, bad, [[True, True], [False, True]]), [0, 0])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fields_correct", 11.0),
        ("fields_total", 0.0),
        ("document_count", 0.0),
        ("rate_sum", 2.0),
        ("rate_sum_sq", 0.9),
        ("rate_sum_sq", 0.01),
    ],
)
def test_impossible_field_sums_are_refused(field: str, value: float) -> None:
    ones = np.ones((1, 1, 1))
    sums = FieldSums(ones, 0.5 * ones, 0.25 * ones, 5 * ones, 10 * ones)
    learn(by_fields(sums), [0])
    with pytest.raises(EvidenceError, match="of template 0, arm 0, day 0 is impossible"):
        learn(by_fields(replace(sums, **{field: value * ones})), [0])


def test_more_outcomes_than_feedback_and_shapes_and_circles_are_refused() -> None:
    ones = np.ones((1, 2, 1))
    daily = successes(ones, ones)
    with pytest.raises(EvidenceError, match=r"success_count \+ failure_count 2.0"):
        learn(replace(daily, feedback_count=ones), [0])
    with pytest.raises(EvidenceError, match="groups"):
        learn(daily, [0, 1])
    with pytest.raises(EvidenceError, match="predecessor"):
        learn(daily, [0], predecessors=[[1, 0]])
    with pytest.raises(EvidenceError, match="predecessor"):
        learn(daily, [0], predecessors=[[5, -1]])
    with pytest.raises(EvidenceError, match="field sums"):
        learn(replace(daily, by_fields=np.array([True])), [0])


def test_nothing_gives_nothing() -> None:
    for shape in ((0, 0, 0), (0, 3, 5), (2, 0, 5), (2, 2, 0)):
        learnt = learn(successes(np.zeros(shape), np.zeros(shape)), np.zeros(shape[0]))
        assert learnt.alpha.shape == shape[:2]
    assert not Watch((2, 2), 1, [0, 0]).step(np.zeros((2, 2)), np.zeros((2, 2))).any()
