"""Promises of the slow channel: its half of the budget, and one bound with the one-day channel."""

import numpy as np
import pytest

from assets.forecasts import cusum
from assets.forecasts.calibration import BUCKETS, normal_score_of
from assets.forecasts.cusum import CLIP, DRIFT, RATES, REST, REST_DAYS

OLD = BUCKETS - 1


def independent(templates: int, days: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((templates, days))


@pytest.mark.parametrize("rate", [1 / 60, 1 / 182, 1 / 1000])
def test_the_days_that_it_alone_alarms_on_are_half_of_the_budget(rate: float) -> None:
    past, new = independent(600, 300, 1), independent(2000, 200, 2)
    bounds = cusum.learn(past, np.full(past.shape, OLD))
    h = bounds.at(np.full(len(new), rate), np.full(len(new), OLD))
    single_day = np.full(len(new), normal_score_of(rate / 2))
    statistic, alarms = np.zeros(len(new)), 0
    for day in new.T:
        alarm = day > cusum.critical(statistic, h)
        alarms += int((alarm & (day <= single_day)).sum())
        statistic = cusum.run(np.column_stack([day]), h[:, None], single_day, statistic)
    assert alarms / new.size == pytest.approx(rate / 2, rel=0.15)


def test_the_critical_score_is_where_the_sum_passes_its_bound() -> None:
    statistic, h = np.array([0.0, 3.0, 4.9]), np.full(3, 5.0)
    critical = cusum.critical(statistic, h)
    assert critical.tolist() == [np.inf, 2.5, pytest.approx(0.6)]
    after = cusum.run(np.array([[CLIP], [2.6], [0.5]]), h[:, None], np.full(3, 9.0), statistic)
    assert after.tolist() == [CLIP - DRIFT, -REST, pytest.approx(4.9)]


def test_after_an_alarm_of_either_channel_evidence_is_gathered_anew() -> None:
    days = np.tile([3.5, *[-1.0] * int(REST_DAYS)], (2, 1))
    single_day = np.array([3.0, 9.0])
    bounds = np.full(days.shape, 9.0)
    assert cusum.run(days[:, :1], bounds, single_day).tolist() == [-REST, CLIP - DRIFT]
    assert cusum.run(days[:, :4], bounds, single_day)[0] == pytest.approx(-REST + 3 * REST / REST_DAYS)
    assert cusum.run(days, bounds, single_day)[0] == pytest.approx(0.0)


def test_days_without_a_score_leave_the_sum_and_gaps_in_knowledge_lean_on_theory() -> None:
    days = np.array([[1.5, np.nan, np.nan, 1.5]])
    assert cusum.run(days, np.full(days.shape, 9.0), np.array([9.0])).tolist() == [2.0]
    untaught = cusum.learn(np.full((1, 3), np.nan), np.zeros((1, 3), dtype=int)).table
    taught = cusum.learn(independent(600, 300, 3), np.full((600, 300), OLD)).table
    assert np.isfinite(untaught).all()
    assert (np.diff(untaught, axis=1) >= 0).all()
    assert untaught[0, np.searchsorted(-RATES, -1 / 182)] == pytest.approx(
        taught[OLD, np.searchsorted(-RATES, -1 / 182)], abs=0.6
    )
