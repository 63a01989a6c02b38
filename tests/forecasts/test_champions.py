"""Promises of the back-test: it knows who forecasts best, and changes champions for good reasons only."""

from datetime import timedelta

import numpy as np
from forecast_panels import calm, panel_of

from assets.forecasts.champions import Backtest, backtest, champions
from assets.forecasts.judging import METHODS, judge

PROPHET, EWMA, NAIVE, ZSCORE = (METHODS.index(name) for name in ("prophet", "ewma", "seasonal_naive", "zscore"))


def test_losses_tell_forecasters_apart_and_two_sigma_cover_their_share() -> None:
    values = calm(80, 200, seed=1)
    tested = backtest(panel_of(values), 60)
    loss = np.nanmean(tested.pinball, axis=0)
    assert max(loss[PROPHET], loss[EWMA]) < 0.9 * loss[ZSCORE] < loss[NAIVE]
    assert abs(np.nanmean(tested.coverage[:, EWMA]) - 0.9545) < 0.015
    assert (tested.days[:, EWMA] == (~np.isnan(values[:, -60:])).sum(axis=1)).all()


def test_a_day_is_forecast_from_the_days_before_it() -> None:
    values = calm(8, 150, seed=2)
    before = backtest(panel_of(values[:, :-5]), 40)
    values[:, -5:] = 1.0
    after = backtest(panel_of(values), 45)
    # The five wild days are lost by everyone, and spoil no earlier forecast.
    spoilt = after.pinball * after.days - before.pinball * before.days
    assert (spoilt[:, [NAIVE, ZSCORE]] > 5 * 0.2).all()


def test_a_challenger_must_win_by_three_percent_over_two_months() -> None:
    pinball = np.full((4, len(METHODS)), 1.0)
    pinball[:, EWMA] = [0.98, 0.96, 0.96, np.nan]
    pinball[:, ZSCORE] = 0.5
    days = np.full((4, len(METHODS)), 90.0)
    days[2] = 50.0
    serving = np.full(4, PROPHET, dtype=np.int8)
    assert champions(Backtest(pinball, pinball, days), serving).tolist() == [PROPHET, EWMA, PROPHET, PROPHET]


def test_prophet_has_no_part_where_it_is_not_champion() -> None:
    panel = panel_of(calm(6, 150, seed=3))
    shut_out = np.arange(6) < 3
    verdict = judge(panel, judged=7, shut_out=shut_out)
    assert verdict.days[-1] == panel.first_day + timedelta(days=149)
    assert set(verdict.ahead_method[:3]) == {EWMA}
    assert PROPHET in verdict.ahead_method[3:]
