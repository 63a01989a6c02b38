"""Promises of the back-test: it knows who forecasts best, and changes champions for good reasons only."""

from datetime import timedelta

import numpy as np
import pytest
from forecast_panels import calm, panel_of

from assets.forecasts.champions import Backtest, backtest, champions
from assets.forecasts.judging import judge
from assets.forecasts.methods import METHODS
from assets.forecasts.serving import Serving

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


def test_a_challenger_must_win_by_three_percent_over_two_months_and_not_by_chance() -> None:
    loss = np.full((5, len(METHODS)), 1.0)
    loss[:, EWMA] = [0.98, 0.96, 0.96, np.nan, 0.96]
    loss[1, NAIVE], loss[3, ZSCORE] = 0.95, 0.5
    losses = np.repeat(loss[:, :, None], 90, axis=2)
    losses[2, :, 50:] = np.nan
    losses[4, EWMA] += np.where(np.arange(90) % 2, 0.2, -0.2)
    serving = np.full(5, PROPHET, dtype=np.int8)
    assert champions(Backtest(losses, loss), serving).tolist() == [PROPHET, NAIVE, PROPHET, ZSCORE, PROPHET]


def test_where_each_weekday_goes_its_own_way_the_naive_method_wins_and_alarms_as_often_as_asked_for() -> None:
    random = np.random.default_rng(4)
    weekdays = random.uniform(0.1, 0.4, (150, 7))
    days = [weekdays := np.clip(weekdays + random.normal(0, 0.01, weekdays.shape), 0, 1) for _ in range(30)]
    panel = panel_of(np.concatenate([np.concatenate(days, axis=1), calm(50, 210, seed=5)]))
    ewma = np.full(len(panel.subjects), EWMA, dtype=np.int8)
    chosen = champions(backtest(panel), ewma)
    assert (chosen[:150] == NAIVE).mean() > 0.9
    assert (chosen[150:] != NAIVE).all()
    verdict = judge(panel, budget=60 / 7, judged=56, serving=Serving.by(chosen))
    alarms, naive = verdict.is_anomaly[:150], verdict.method[:150] == NAIVE
    assert naive.mean() > 0.9
    assert alarms[naive].sum() == pytest.approx(naive.sum() / 60, rel=0.25)
    of_ewma = judge(panel, budget=60 / 7, judged=1, serving=Serving.by(ewma))
    assert (verdict.upper - verdict.lower)[:150, -1].mean() < 0.5 * (of_ewma.upper - of_ewma.lower)[:150, -1].mean()


def test_a_simple_method_expects_no_incident_to_come_back_and_takes_a_new_level_for_one() -> None:
    values = calm(12, 160, seed=6)
    values[np.isnan(values)] = 0.2
    values[:, 100:107] = 0.9
    values[:, 140:] += 0.15
    for method in (NAIVE, ZSCORE):
        verdict = judge(panel_of(values), judged=60, serving=Serving.by(np.full(12, method, dtype=np.int8)))
        expected = verdict.yhat[:, [7, 14, 43, 53]].mean(axis=0) - values[:, :100].mean()
        assert (np.abs(expected[:3]) < 0.05).all()
        assert np.median(np.abs(verdict.yhat[:, -1] - values[:, -1])) < 0.03


def test_prophet_has_no_part_where_it_is_not_champion() -> None:
    panel = panel_of(calm(6, 150, seed=3))
    champions = np.repeat(np.array([EWMA, PROPHET], dtype=np.int8), 3)
    verdict = judge(panel, judged=7, serving=Serving.by(champions))
    assert verdict.days[-1] == panel.first_day + timedelta(days=149)
    assert set(verdict.ahead_method[:3]) == {EWMA}
    assert PROPHET in verdict.ahead_method[3:]
