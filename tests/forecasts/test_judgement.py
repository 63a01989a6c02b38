"""Promises of the rolling judgement and of the bands it judges by."""

import math
import subprocess
import sys
import uuid
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.forecasts.bands import INTERVAL, MIN_HALF_WIDTH, Band, FitError, prophet_bands, zscore_bands
from assets.forecasts.engine import HORIZON, JUDGED_DAYS, Forecast, Judgement, is_inactive, judge, quarantine
from assets.forecasts.history import Day, DayRow, History, Subject, histories

TODAY = date(2026, 5, 7)  # a Thursday
SUBJECT = Subject("acme", uuid.UUID(int=7), "invoice")


def a_history(values: Sequence[float], *, last: date = TODAY - timedelta(days=1)) -> History:
    start = last - timedelta(days=len(values) - 1)
    return History(SUBJECT, tuple(Day(start + timedelta(days=i), float(value), 20) for i, value in enumerate(values)))


def stationary(days: int, seed: int = 0) -> np.ndarray:
    weekday = 0.02 * np.sin(np.arange(days) * 2 * np.pi / 7)
    return np.clip(0.15 + weekday + np.random.default_rng(seed).normal(0, 0.02, days), 0, 1)


def judged(judgement: Judgement) -> dict[date, Forecast]:
    return {row.date: row for row in judgement.forecasts if row.actual is not None}


def cheap(history: History, today: date = TODAY, **options: object) -> Judgement:
    """The same rules with the z-score in Prophet's place: what is promised of dates can be tried on many histories."""
    return judge(history, today, fitters={"prophet": zscore_bands, "zscore": zscore_bands}, **options)  # type: ignore[arg-type]


drifts = st.floats(0, 1, allow_nan=False)


@settings(deadline=None, max_examples=150)
@given(st.lists(drifts, min_size=8, max_size=70), st.data())
def test_a_days_bounds_are_the_same_whatever_came_on_that_day_and_later(
    values: list[float], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(7, len(values) - 1))
    future = data.draw(st.lists(drifts, min_size=len(values) - cut, max_size=len(values) - cut))
    day = a_history(values).days[cut].date
    before, after = (judged(cheap(a_history(series))).get(day) for series in (values, values[:cut] + future))
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert before.band == after.band
        assert before.model == after.model
        assert before.model.fitted_to < day


def test_prophets_bounds_too_ignore_the_judged_day_and_later() -> None:
    values = stationary(90)
    changed = np.concatenate([values[:-5], [0.9, 0.0, 1.0, 0.5, 0.7]])
    day = TODAY - timedelta(days=5)
    assert judged(judge(a_history(values), TODAY))[day].band == judged(judge(a_history(changed), TODAY))[day].band


@settings(deadline=None, max_examples=60)
@given(st.lists(drifts, min_size=10, max_size=80), st.integers(1, 10))
def test_a_verdict_stays_what_it_was_when_more_days_come(values: list[float], more: int) -> None:
    part = a_history(values).before(TODAY - timedelta(days=more))
    earlier = cheap(part, TODAY - timedelta(days=more))
    flagged = frozenset(row.date for row in earlier.forecasts if row.is_anomaly)
    later = cheap(a_history(values), flagged=flagged)
    common = judged(earlier).keys() & judged(later).keys()
    assert {day: judged(earlier)[day] for day in common} == {day: judged(later)[day] for day in common}


def test_a_spike_is_flagged_and_a_drop_is_not() -> None:
    values = stationary(120)
    values[-3], values[-6] = 0.45, 0.0
    verdict = judged(judge(a_history(values), TODAY))
    assert verdict[TODAY - timedelta(days=3)].is_anomaly
    assert not verdict[TODAY - timedelta(days=6)].is_anomaly


def test_stationary_days_are_mostly_not_flagged() -> None:
    days = [row for seed in range(8) for row in judged(judge(a_history(stationary(150, seed)), TODAY)).values()]
    assert len(days) == 8 * JUDGED_DAYS
    assert sum(day.is_anomaly for day in days) <= 0.1 * len(days)


def test_stored_yhat_is_what_a_plain_prophet_says() -> None:
    from prophet import Prophet

    history = a_history(stationary(120))
    verdict = judge(history, TODAY)
    monday = date(2026, 5, 4)
    known = history.before(monday)
    plain = Prophet(interval_width=INTERVAL, daily_seasonality=False, yearly_seasonality=False)
    plain.fit(pd.DataFrame({"ds": pd.to_datetime([day.date for day in known.days]), "y": known.values}))
    week = [monday, monday + timedelta(days=1), monday + timedelta(days=2)]
    expected = plain.predict(pd.DataFrame({"ds": pd.to_datetime(week)}))
    found = [judged(verdict)[day].band for day in week]
    assert [band.yhat for band in found] == pytest.approx(expected["yhat"].tolist(), abs=1e-9)
    # Prophet samples its interval; 1000 draws leave about 0.085 sigma of noise, sigma being 0.02 here.
    assert [band.upper for band in found] == pytest.approx(expected["yhat_upper"].tolist(), abs=0.007)
    assert [band.lower for band in found] == pytest.approx(expected["yhat_lower"].tolist(), abs=0.007)


def test_the_band_widens_ahead_as_prophets_own_simulation_does() -> None:
    from prophet import Prophet

    values = np.concatenate([np.linspace(0.2, 0.7, 60), np.linspace(0.7, 0.5, 60)]) + stationary(120) - 0.15
    history = a_history(values)
    ahead = [TODAY + timedelta(days=step) for step in range(40)]
    plain = Prophet(interval_width=INTERVAL, daily_seasonality=False, uncertainty_samples=20_000)
    plain.fit(pd.DataFrame({"ds": pd.to_datetime([day.date for day in history.days]), "y": history.values}))
    state = np.random.get_state()
    np.random.seed(1)
    expected = plain.predict(pd.DataFrame({"ds": pd.to_datetime(ahead)}))
    np.random.set_state(state)
    bands = prophet_bands(history, ahead)
    half_widths = [band.upper - band.yhat for band in bands]
    assert half_widths[-1] > 2 * half_widths[0]
    sampled = (expected["yhat_upper"] - expected["yhat_lower"]) / 2
    assert half_widths == pytest.approx(sampled.tolist(), rel=0.05)


def test_two_runs_give_identical_numbers_whatever_the_global_random_state() -> None:
    history = a_history(stationary(95))
    np.random.seed(1)
    first = judge(history, TODAY)
    state = np.random.get_state()[1].tolist()
    np.random.seed(2)
    second = judge(history, TODAY)
    assert first == second
    np.random.seed(1)
    assert np.random.get_state()[1].tolist() == state


def test_an_unchanged_history_is_not_fitted_again() -> None:
    history = a_history(stationary(60))
    first = judge(history, TODAY)
    remembered = {(row.model.model_id, row.date): row.band for row in first.forecasts}
    second = judge(history, TODAY, remembered=remembered)
    assert first.fits > 0
    assert second.fits == 0
    assert second.forecasts == first.forecasts


def test_the_z_score_hands_over_to_prophet_at_exactly_thirty_earlier_days() -> None:
    history = a_history(stationary(33))
    methods = [row.model.method for row in judged(judge(history, TODAY)).values()]
    earlier_days = range(33 - JUDGED_DAYS, 33)
    assert methods == ["prophet" if days >= 30 else "zscore" for days in earlier_days]


def test_prophet_is_fitted_once_a_calendar_week() -> None:
    verdict = judge(a_history(stationary(120)), TODAY)
    mondays = {day - timedelta(days=day.weekday()) for day in judged(verdict)}
    assert {row.model.fitted_to for row in judged(verdict).values()} == {day - timedelta(days=1) for day in mondays}
    assert verdict.fits == len(mondays) + 1


def test_the_days_ahead_are_forecast_without_a_verdict_and_today_is_not_judged() -> None:
    history = a_history([*stationary(40), 0.99], last=TODAY)
    verdict = judge(history, TODAY)
    ahead = [row for row in verdict.forecasts if row.actual is None]
    assert [row.date for row in ahead] == [TODAY + timedelta(days=step) for step in range(HORIZON)]
    assert not any(row.is_anomaly for row in ahead)
    assert max(judged(verdict)) == TODAY - timedelta(days=1)


@pytest.mark.parametrize("days", [20, 60])
def test_a_constant_history_alarms_on_a_step_but_not_on_rounding(days: int) -> None:
    for step, alarms in ((1e-9, False), (0.9 * MIN_HALF_WIDTH, False), (2 * MIN_HALF_WIDTH, True)):
        last = judged(judge(a_history([0.1] * days + [0.1 + step]), TODAY))[TODAY - timedelta(days=1)]
        assert last.is_anomaly is alarms


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_bounds_stay_within_the_scores_range_at_its_ends(value: float) -> None:
    for row in judge(a_history([value] * 50), TODAY).forecasts:
        assert 0 <= row.band.lower <= row.band.yhat <= row.band.upper <= 1
        assert not row.is_anomaly


def test_gaps_are_neither_judged_nor_filled() -> None:
    whole = a_history(stationary(130))
    history = History(SUBJECT, tuple(day for i, day in enumerate(whole.days) if i % 3 or i > 125))
    verdict = judge(history, TODAY)
    assert list(judged(verdict)) == [day.date for day in history.days[-JUDGED_DAYS:]]
    assert verdict.failures == []


@pytest.mark.parametrize("days", [0, 1, 6])
def test_histories_too_short_to_judge_have_no_forecast(days: int) -> None:
    assert judge(a_history([0.9] * days), TODAY).forecasts == []


def test_the_eighth_day_is_the_first_to_be_judged() -> None:
    assert list(judged(judge(a_history(stationary(8)), TODAY))) == [TODAY - timedelta(days=1)]


def test_nan_days_vanish_duplicate_days_merge_and_any_order_gives_the_same_history() -> None:
    rows = [
        DayRow(SUBJECT, date(2026, 1, 2), 0.4, 10),
        DayRow(SUBJECT, date(2026, 1, 1), math.nan, 5),
        DayRow(SUBJECT, date(2026, 1, 2), 0.1, 20),
        DayRow(SUBJECT, date(2026, 1, 3), None, 5),
        DayRow(SUBJECT, date(2026, 1, 4), math.inf, 5),
        DayRow(SUBJECT, date(2025, 12, 31), 0.3, 1),
    ]
    [history] = histories(rows)
    assert history.days == (Day(date(2025, 12, 31), 0.3, 1), Day(date(2026, 1, 2), pytest.approx(0.2), 30))
    assert histories(reversed(rows)) == [history]
    assert histories(rows[1:2]) == []


def test_a_flagged_day_is_kept_out_of_the_next_fit_and_a_lasting_level_is_let_in() -> None:
    history = a_history(stationary(60))
    newest = [day.date for day in history.days[-14:]]
    assert quarantine(history, newest[:3]) == history.without(frozenset(newest[:3]))
    assert quarantine(history, newest) == history
    assert quarantine(history, [history.days[0].date]) == history


def test_an_incident_does_not_hide_the_next_one() -> None:
    values = stationary(120)
    values[-10:-7] = 0.8  # Tuesday to Thursday of the week before
    values[-2] = 0.45
    verdict = judged(judge(a_history(values), TODAY))
    assert verdict[TODAY - timedelta(days=10)].is_anomaly
    assert verdict[TODAY - timedelta(days=2)].is_anomaly
    assert verdict[TODAY - timedelta(days=2)].model.fitted_days < 120 - 3


def test_where_prophet_fails_the_z_score_stands_in_and_the_failure_is_named() -> None:
    def fails(history: History, days: Sequence[date]) -> list[Band]:
        raise FitError("Prophet failed: RuntimeError: line search")

    history = a_history(stationary(60))
    verdict = judge(history, TODAY, fitters={"prophet": fails, "zscore": zscore_bands})
    assert {row.model.method for row in verdict.forecasts} == {"zscore"}
    assert all("line search" in failure for failure in verdict.failures)
    assert len(verdict.failures) == 4  # three weeks judged, one ahead


def test_a_history_that_prophet_refuses_is_a_fit_error() -> None:
    with pytest.raises(FitError, match="less than 2"):
        prophet_bands(a_history([0.2]), [TODAY])


def test_a_fit_prints_nothing_and_leaves_the_loggers_as_they_were() -> None:
    fit = (
        "import logging; from datetime import date, timedelta; from uuid import UUID;"
        "from assets.forecasts.bands import prophet_bands; from assets.forecasts.history import *;"
        "days = tuple(Day(date(2026, 1, 1) + timedelta(days=i), 0.1 + i % 7 / 50, 9) for i in range(40));"
        "prophet_bands(History(Subject('t', UUID(int=1), 'x'), days), [date(2026, 3, 1)]);"
        "assert not logging.getLogger('cmdstanpy').disabled"
    )
    # A process of its own: both packages speak up on their first use in a process only.
    ran = subprocess.run([sys.executable, "-c", fit], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_template_silent_for_more_than_sixty_days_is_inactive() -> None:
    assert not is_inactive(a_history([0.1] * 10, last=TODAY - timedelta(days=60)), TODAY)
    assert is_inactive(a_history([0.1] * 10, last=TODAY - timedelta(days=61)), TODAY)
    assert is_inactive(a_history([0.1], last=TODAY), TODAY)
