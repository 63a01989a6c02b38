"""Promises of the calibration: p-values that mean what they say, in both directions, however few taught them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assets.forecasts import calibration
from assets.forecasts.calibration import BUCKETS, GRID, buckets_of, discoveries, normal_score_of, p_values
from assets.forecasts.state import TAIL_CLASSES


def taught(law: stats.rv_continuous, templates: int, days: int) -> calibration.Quantiles:
    innovations = law.rvs(size=(templates, days), random_state=np.random.default_rng(1))
    return calibration.learn(innovations, np.full(innovations.shape, BUCKETS - 1))


@pytest.mark.parametrize("law", [stats.norm(0.1, 1.2), stats.t(3), stats.gumbel_r()])
def test_p_values_of_new_days_are_uniform_to_the_far_tail(law: stats.rv_continuous) -> None:
    quantiles = taught(law, 300, 300)
    for rate in (0.5, 0.1, 1 / 60, 1 / 364, 1e-4):
        at = quantiles.innovations(normal_score_of(np.array([rate])), np.array([BUCKETS - 1]))
        # 90,000 days: one in 10,000 is met 9 times, the Pareto tail carries further.
        assert law.sf(at[0]) == pytest.approx(rate, rel=0.08 if rate > 1e-3 else 0.6)


def test_one_template_gets_wider_bounds_than_a_fleet_would_give_and_no_wild_ones() -> None:
    bound = normal_score_of(np.array([1 / 364]))
    alone = taught(stats.norm(), 1, 60).innovations(bound, np.array([BUCKETS - 1]))[0]
    assert stats.norm.isf(1 / 364) < alone < 4.0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-30, 30), min_size=0, max_size=60), st.floats(-6, 6))
def test_the_table_rises_and_its_inverse_undoes_it(seen: list[float], score: float) -> None:
    innovations = np.array([seen]) if seen else np.full((1, 5), np.nan)
    quantiles = calibration.learn(innovations, np.full(innovations.shape, 2))
    assert (np.diff(quantiles.table, axis=1) >= 0).all()
    assert np.isfinite(quantiles.table).all()
    bucket = np.array([2])
    at = quantiles.innovations(np.array([score]), bucket)
    back = quantiles.normal_scores(at, bucket)[0]
    # Where many innovations are equal one value stands for a range of scores.
    flat = (np.diff(quantiles.table[2]) < 1e-3).any()
    assert flat or back == pytest.approx(score, abs=1e-6)


def test_buckets_tell_ages_apart_and_tails_only_of_the_old() -> None:
    ages = np.array([0, 6, 7, 13, 14, 30, 60, 60, 60, 120, 120, 9999])
    tails = np.array([2, 0, 2, 0, 1, 2, 0, 1, 2, 0, 2, 1], dtype=np.int8)
    assert buckets_of(ages, tails).tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 9, 8]
    assert BUCKETS == 4 + 2 * TAIL_CLASSES


def test_normal_scores_and_p_values_are_one_thing() -> None:
    assert p_values(normal_score_of(np.array([1e-9, 0.3, 0.999]))) == pytest.approx([1e-9, 0.3, 0.999])
    assert np.all(np.diff(GRID) > 0)


def test_the_digest_keeps_its_share_and_finds_what_stands_out() -> None:
    random = np.random.default_rng(0)
    p = random.uniform(size=2000)
    p[:40] = random.uniform(0, 1e-5, 40)
    p[77] = np.nan
    found = discoveries(p, 0.1)
    assert found[:40].all()
    assert found[40:].sum() <= 15
    assert not found[77]
    assert not discoveries(np.full(5, np.nan), 0.1).any()
    assert not discoveries(random.uniform(0.2, 1, 100), 0.1).any()
