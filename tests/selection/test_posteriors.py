"""Promises of posteriors and of the probability of being the best."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from assets.selection.posteriors import CountsError, posteriors
from assets.selection.recommend import ArmPosterior, recommend
from storage.errors import UsageError

counts = st.integers(0, 2000)
arms = st.lists(st.tuples(counts, counts), min_size=2, max_size=8)


def best(pairs: list[tuple[int, int]]) -> np.ndarray:
    successes, failures = np.array(pairs).T
    return posteriors(successes[None], failures[None]).p_best[0]


def by_scipy_quad(pairs: list[tuple[int, int]]) -> list[float]:
    """The same integral, arm by arm over the rate itself, by an independent adaptive routine."""
    laws = [stats.beta(1 + good, 1 + bad) for good, bad in pairs]
    points = sorted({float(law.ppf(q)) for law in laws for q in (1e-7, 0.001, 0.05, 0.5, 0.95, 0.999, 1 - 1e-7)})
    edges = [0.0, *points, 1.0]

    def mass(arm: int, low: float, high: float) -> float:
        others = [law for index, law in enumerate(laws) if index != arm]
        return float(
            integrate.quad(
                lambda x: laws[arm].pdf(x) * np.prod([law.cdf(x) for law in others]), low, high, epsabs=1e-12
            )[0]
        )

    return [sum(mass(arm, *edge) for edge in pairwise(edges)) for arm in range(len(laws))]


@pytest.mark.parametrize(
    "pairs",
    [
        [(0, 0), (0, 0)],
        [(8, 2), (7, 3)],
        [(90, 10), (85, 15), (0, 0)],
        [(5000, 400), (4900, 420), (9, 0), (1, 1)],
        [(100_000, 5000), (3, 0)],
        [(0, 50), (50, 0)],
    ],
)
def test_p_best_agrees_with_an_independent_quadrature(pairs: list[tuple[int, int]]) -> None:
    assert best(pairs) == pytest.approx(by_scipy_quad(pairs), abs=1e-8)


def test_p_best_agrees_with_monte_carlo() -> None:
    pairs = [(40, 10), (75, 25), (9, 1), (160, 45), (0, 0)]
    draws = np.stack([np.random.default_rng(i).beta(1 + g, 1 + b, 400_000) for i, (g, b) in enumerate(pairs)])
    shares = np.bincount(draws.argmax(axis=0), minlength=len(pairs)) / draws.shape[1]
    assert best(pairs) == pytest.approx(shares, abs=5 * 0.5 / np.sqrt(400_000))


@settings(deadline=None, max_examples=100)
@given(arms)
def test_p_best_sums_to_one(pairs: list[tuple[int, int]]) -> None:
    assert best(pairs).sum() == pytest.approx(1, abs=1e-9)
    assert (best(pairs) >= 0).all()


@settings(deadline=None, max_examples=60)
@given(arms, st.randoms(use_true_random=False))
def test_naming_the_arms_in_another_order_changes_nothing(pairs: list[tuple[int, int]], random: object) -> None:
    order = list(range(len(pairs)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert best([pairs[i] for i in order]) == pytest.approx(best(pairs)[order], abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(arms, st.integers(0, 7))
def test_one_more_success_never_lowers_its_own_arm(pairs: list[tuple[int, int]], which: int) -> None:
    arm = which % len(pairs)
    more = list(pairs)
    more[arm] = pairs[arm][0] + 1, pairs[arm][1]
    assert best(more)[arm] >= best(pairs)[arm] - 1e-9


def test_best_and_worst_are_mirror_images() -> None:
    for good, bad in ([(8, 2), (7, 3)], [(30, 0), (4, 1)], [(1000, 10), (3, 3)]):
        mirrored = [good[::-1], bad[::-1]]
        assert best([good, bad]) == pytest.approx(1 - best(mirrored), abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.tuples(counts, counts), min_size=1, max_size=6), min_size=1, max_size=6))
def test_ragged_templates_in_one_table_give_what_each_gives_alone(templates: list[list[tuple[int, int]]]) -> None:
    shape = len(templates), max(map(len, templates))
    table, mask = np.full((2, *shape), -1.0), np.zeros(shape, dtype=bool)
    for row, pairs in enumerate(templates):
        table[:, row, : len(pairs)] = np.array(pairs).T
        mask[row, : len(pairs)] = True
    together = posteriors(*table, mask)
    for row, pairs in enumerate(templates):
        assert together.p_best[row, : len(pairs)] == pytest.approx(best(pairs), abs=1e-12)
    assert np.isnan(together.p_best[~mask]).all()


def test_a_single_arm_is_the_best_for_certain_and_no_templates_give_no_rows() -> None:
    assert best([(3, 4)]).tolist() == [1.0]
    assert posteriors(np.zeros((0, 3)), np.zeros((0, 3))).p_best.shape == (0, 3)
    assert np.isnan(posteriors([[1.0]], [[1.0]], [[False]]).p_best).all()


def test_the_posterior_is_beta_with_its_equal_tailed_interval() -> None:
    found = posteriors([[7, 0]], [[3, 0]])
    law = stats.beta(8, 4)
    assert found.mean[0].tolist() == pytest.approx([8 / 12, 0.5])
    assert (found.lower[0, 0], found.upper[0, 0]) == pytest.approx(tuple(law.ppf([0.025, 0.975])))
    assert (found.lower[0, 1], found.upper[0, 1]) == pytest.approx((0.025, 0.975))


def test_arms_known_to_a_billion_feedbacks_are_still_told_apart() -> None:
    def logit_normal(good: int, bad: int) -> tuple[float, float]:
        return float(np.log(good / bad)), 1 / good + 1 / bad

    pairs = [(900_000_000, 100_000_000), (899_990_000, 100_010_000)]
    (first, first_variance), (second, second_variance) = (logit_normal(*pair) for pair in pairs)
    expected = special.ndtr((first - second) / np.sqrt(first_variance + second_variance))
    assert best(pairs)[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("wrong", [-1, np.nan, np.inf])
def test_impossible_counts_are_refused_by_name(wrong: float) -> None:
    with pytest.raises(CountsError, match=r"failure count .* of template 0, arm 1"):
        posteriors([[1, 1]], [[1, wrong]])
    with pytest.raises(CountsError, match="shape"):
        posteriors([[1, 1]], [[1]])


def arm(model: str, p_best: float, n: int = 10, mean: float = 0.5) -> ArmPosterior:
    return ArmPosterior("vendor", model, mean, 0.1, 0.9, p_best, n, 0)


def test_best_takes_the_most_probably_best_and_breaks_ties_the_same_way_always() -> None:
    rows = [arm("b", 0.4), arm("c", 0.2), arm("a", 0.4)]
    assert recommend(rows, "best").chosen.extractor_model == "a"
    assert recommend(rows[::-1], "best") == recommend(rows, "best")
    assert recommend(rows, "best").propensity == 1.0


def test_sample_draws_each_extractor_with_its_probability_of_being_best() -> None:
    rows = [arm("a", 0.7), arm("b", 0.25), arm("c", 0.05)]
    generator = np.random.default_rng(5)
    draws = [recommend(rows, "sample", generator) for _ in range(4000)]
    for row in rows:
        share = np.mean([draw.chosen == row for draw in draws])
        assert share == pytest.approx(row.p_best, abs=4 * 0.5 / np.sqrt(4000))
    assert all(draw.propensity == pytest.approx(draw.chosen.p_best) for draw in draws)


def test_without_any_feedback_nothing_is_recommended() -> None:
    for rows in ([], [arm("a", 0.5, n=0), arm("b", 0.5, n=0)]):
        with pytest.raises(UsageError, match="no feedback"):
            recommend(rows, "best")
