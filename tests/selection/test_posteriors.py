"""Promises of posteriors of counts, and of a recommendation from them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assets.selection.posteriors import CountsError, posteriors
from assets.selection.recommend import ArmPosterior, recommend
from storage.errors import UsageError

counts = st.integers(0, 2000)


def best(pairs: list[tuple[int, int]]) -> np.ndarray:
    successes, failures = np.array(pairs).T
    return posteriors(successes[None], failures[None]).p_best[0]


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
