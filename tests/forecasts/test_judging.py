"""Promises of the judgement of a fleet: what an anomaly is, what a verdict may depend on, and how often it errs."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from forecast_panels import FIRST_DAY, calm, panel_of, rows_of, until
from scipy.stats import binom

from assets.forecasts import prophet_map
from assets.forecasts.judging import MIN_DAYS, Verdicts, judge
from assets.forecasts.methods import METHODS, PROPHET, Method
from assets.forecasts.serving import NEVER, Serving
from assets.forecasts.versions import VERSION, expected, has_prophet, in_words, record

DAYS = 130
PANEL = panel_of(calm(60, DAYS))
MONDAY = FIRST_DAY + timedelta(days=DAYS - 30 - (FIRST_DAY + timedelta(days=DAYS - 30)).weekday())


def of_every_kind() -> Serving:
    """Each method serves some templates, and half of them are held to the fits of a month ago."""
    serving = Serving.by((np.arange(60) // 2 % len(METHODS)).astype(np.int8))
    fits = judge(until(PANEL, DAYS - 30), judged=1, serving=serving).memory.fits
    return replace(serving, since=np.where(np.arange(60) % 2, MONDAY.toordinal(), NEVER), fits=fits)


# Every promise is one of each method, pinned or not.
SERVING = of_every_kind()
SAID = ("yhat", "lower", "upper", "p_value", "is_anomaly", "method", "innovations", "slow", "down_weighted")
AHEAD = ("ahead_yhat", "ahead_lower", "ahead_upper", "ahead_method", "p_crossing")


@pytest.fixture(scope="module")
def whole() -> Verdicts:
    return judge(PANEL, thresholds=0.3, serving=SERVING)


def assert_same(one: Verdicts, other: Verdicts, rows: np.ndarray | slice = slice(None), days: int = 14) -> None:
    """Bit for bit, the newest `days`, rows of `one` against all of `other`."""
    for name in SAID:
        assert getattr(one, name)[rows][:, -days:].tobytes() == getattr(other, name)[:, -days:].tobytes(), name
    for name in AHEAD:
        assert getattr(one, name)[rows].tobytes() == getattr(other, name).tobytes(), name


def test_an_anomaly_is_a_day_above_its_upper_bound(whole: Verdicts) -> None:
    values = PANEL.values.copy()
    values[::3, -5] += 0.15
    verdict = judge(replace(PANEL, values=values), calibration=whole.calibrations, serving=SERVING)
    with np.errstate(invalid="ignore"):
        above = values[:, -14:] > verdict.upper
    assert (verdict.is_anomaly == above).all()
    assert verdict.is_anomaly[::3, -5].mean() >= 0.9
    said = ~np.isnan(verdict.yhat)
    assert (verdict.lower[said] <= verdict.yhat[said]).all()
    assert (verdict.yhat[said] <= verdict.upper[said]).all()
    assert (verdict.lower[said] >= 0).all()
    assert (verdict.upper[said] <= 1).all()


def test_the_order_of_templates_and_a_second_run_change_no_bit(whole: Verdicts) -> None:
    order = np.random.default_rng(3).permutation(len(PANEL.subjects))
    assert_same(whole, judge(rows_of(PANEL, order), thresholds=0.3, serving=SERVING.of(order)), order)


def test_a_tenants_verdicts_are_the_same_when_judged_apart_with_the_fleets_calibration(whole: Verdicts) -> None:
    rows = np.arange(1, len(PANEL.subjects), 2)
    apart = judge(rows_of(PANEL, rows), thresholds=0.3, calibration=whole.calibrations, serving=SERVING.of(rows))
    assert_same(whole, apart, rows)


def test_a_verdict_does_not_look_at_its_own_or_later_days(whole: Verdicts) -> None:
    changed = PANEL.values.copy()
    changed[:, -6:] = np.random.default_rng(5).uniform(size=(len(changed), 6))
    panel = replace(PANEL, values=changed, counts=np.where(np.isnan(changed), 0.0, 100.0))
    verdict = judge(panel, serving=SERVING)
    for name in ("yhat", "lower", "upper"):
        before, after = getattr(whole, name)[:, :-5], getattr(verdict, name)[:, :-5]
        # The day's own count of evaluations says how exact it is, so a day must have come for its bound to be the same.
        came = ~np.isnan(PANEL.values[:, -14:-5])
        assert before[came].tobytes() == after[came].tobytes(), name


def test_nights_with_memory_say_what_one_run_from_the_start_says(whole: Verdicts) -> None:
    night = judge(until(PANEL, DAYS - 14), thresholds=0.3, serving=SERVING)
    said = []
    for day in range(DAYS - 13, DAYS + 1):
        panel, known = until(PANEL, day), night.calibrations
        night = judge(panel, night.memory, thresholds=0.3, judged=1, calibration=known, serving=SERVING)
        said.append(night)
    for name in SAID:
        nightly = np.concatenate([getattr(each, name) for each in said], axis=1)
        assert nightly.tobytes() == getattr(whole, name).tobytes(), name
    for name in AHEAD:
        assert getattr(night, name).tobytes() == getattr(whole, name).tobytes(), name


def test_a_pinned_fit_serves_as_it_did_though_memory_is_lost_and_newer_fits_are_made(whole: Verdicts) -> None:
    prophets = (SERVING.methods == PROPHET) & (SERVING.since < NEVER) & has_prophet(SERVING.fits)
    assert prophets.sum() > 4
    kept = whole.memory.fits[prophets]
    # The noise is the recursion's to learn, from day to day.
    for name in set(VERSION.names or ()) - {"within"}:
        assert kept[name].tobytes() == SERVING.fits[name][prophets].tobytes()
    free = judge(PANEL, judged=0, serving=Serving.by(SERVING.methods), calibration=whole.calibrations)
    assert (free.memory.fits["first_day"] + free.memory.fits["start"] + free.memory.fits["span"])[prophets].min() > (
        kept["first_day"] + kept["start"] + kept["span"]
    ).max()
    assert (free.ahead_yhat[prophets, 0] != whole.ahead_yhat[prophets, 0]).all()
    others = SERVING.since == NEVER
    assert free.ahead_yhat[others].tobytes() == whole.ahead_yhat[others].tobytes()


def test_what_a_record_expects_is_what_its_fit_predicts() -> None:
    values = np.vstack([calm(20, 200, seed=12), np.full((2, 200), 0.3)])
    fits = prophet_map.fit(values, FIRST_DAY)
    after = FIRST_DAY + timedelta(days=190)
    kept = record(fits)
    assert expected(kept, after, 30) == pytest.approx(prophet_map.predict(fits, after, 30), abs=1e-6)
    assert expected(kept[3:4], after + timedelta(days=5), 2).tobytes() == expected(kept, after, 30)[3, 5:7].tobytes()
    words = in_words(kept[0].tobytes())["prophet"]
    assert words["k"] == fits.k[0]
    assert len(words["delta"]) == len(words["changepoints"]) > 10


def test_what_is_said_ahead_of_a_monday_is_what_the_monday_is_judged_by() -> None:
    monday = DAYS - 1 - (FIRST_DAY + timedelta(days=DAYS - 1)).weekday()
    night = judge(until(PANEL, monday), judged=1, serving=SERVING)
    panel = until(PANEL, monday + 1)
    judged = judge(panel, night.memory, judged=1, calibration=night.calibrations, serving=SERVING)
    came = ~np.isnan(PANEL.values[:, monday])
    assert night.ahead_yhat[came, 0] == pytest.approx(judged.yhat[came, 0], abs=1e-12, nan_ok=True)
    assert night.ahead_method[came].tolist() == judged.method[came, 0].tolist()


def test_late_days_restate_only_their_template(whole: Verdicts) -> None:
    late = PANEL.values.copy()
    late[4, -20] = 0.5
    days = whole.memory.days.copy()
    days[4] = 0
    panel = replace(PANEL, values=late)
    memory, known = replace(whole.memory, days=days), whole.calibrations
    again = judge(panel, memory, thresholds=0.3, calibration=known, serving=SERVING)
    others = np.arange(len(PANEL.subjects)) != 4
    assert_same(whole, replace_rows(again, others), others)
    assert not np.array_equal(again.upper[4], whole.upper[4], equal_nan=True)


def replace_rows(verdict: Verdicts, rows: np.ndarray) -> Verdicts:
    return replace(verdict, **{name: getattr(verdict, name)[rows] for name in (*SAID, *AHEAD)})


def test_false_alarms_come_as_rarely_as_asked_for_and_coverage_is_nominal() -> None:
    panel = panel_of(calm(1000, 120, seed=11))
    verdict = judge(panel, budget=180 / 7)
    judged = ~np.isnan(verdict.p_value)
    days = int(judged.sum())
    for alarms, rate in (
        (verdict.is_anomaly.sum(), 1 / 180),
        ((verdict.p_value[judged] < 1 / 60).sum(), 1 / 60),
        ((verdict.p_value[judged] < 0.02275).sum(), 0.02275),
        ((verdict.p_value[judged] > 0.97725).sum(), 0.02275),
    ):
        # Days of one template hang together a little: 4 binomial deviations, and a tenth of the rate.
        assert abs(alarms - rate * days) < 4 * binom.std(days, rate) + 0.1 * rate * days


def test_a_lasting_shift_is_found_though_no_day_of_it_stands_out() -> None:
    values = calm(150, 120, seed=2, correlation=0.0)
    noise = np.nanstd(values[:, 60:106], axis=1, keepdims=True)
    calibrated = judge(panel_of(values), budget=26.0)
    values[:, -14:] = np.clip(values[:, -14:] + 2.0 * noise, 0, 1)
    shifted = judge(panel_of(values), budget=26.0, calibration=calibrated.calibrations)
    assert shifted.is_anomaly[:, :5].any(axis=1).mean() > calibrated.is_anomaly[:, :5].any(axis=1).mean() + 0.5


def test_after_a_known_event_a_new_level_is_no_anomaly() -> None:
    values = calm(100, 120, seed=4)
    calibrated = judge(panel_of(values)).calibrations
    values[:, -10:] = np.clip(values[:, -10:] + 0.1, 0, 1)
    unknown = panel_of(values)
    events = unknown.events.copy()
    events[:, -10] = True
    found = [
        judge(panel, calibration=calibrated).is_anomaly[:, -10:].mean()
        for panel in (replace(unknown, events=events), unknown)
    ]
    assert found[0] < 0.02
    assert found[1] > 0.3


def test_prophets_part_comes_back_a_week_after_a_known_event_and_keeps_the_weekdays_from_before_it() -> None:
    values = calm(20, 120, seed=15, correlation=0.0)[1::3]
    values[:, -12:] = np.clip(values[:, -12:] + 0.1, 0, 1)
    panel = panel_of(values)
    events = np.zeros(values.shape, dtype=bool)
    events[:, -12] = True
    events[0, 40] = True
    verdict = judge(replace(panel, events=events), judged=14)
    assert (verdict.ahead_method == PROPHET).all()
    assert (verdict.method[:, 2:7] != PROPHET).all()
    made_of = verdict.memory.fits
    curve = np.sin(expected(made_of, FIRST_DAY + timedelta(days=113), 7)) ** 2
    assert np.abs(curve.mean(axis=1) - np.nanmean(values[:, -7:], axis=1)).max() < 0.03
    # Nine days have no weekdays of their own to tell.
    before = FIRST_DAY + timedelta(days=100)
    week = expected(made_of, before, 7) - expected(made_of, before, 7).mean(axis=1, keepdims=True)
    known = np.nanmean(values[:, 58:107].reshape(len(values), 7, 7), axis=1)
    known = np.roll(known - known.mean(axis=1, keepdims=True), (58 - 100) % 7, axis=1)
    assert np.corrcoef(week.ravel(), known.ravel())[0, 1] > 0.8


def test_an_incident_neither_hides_the_next_nor_lasts_for_ever() -> None:
    values = calm(100, 140, seed=6)
    calibrated = judge(panel_of(values), judged=40).calibrations
    values[:, -40:-33] += 0.15
    values[:, -25] += 0.15
    values[:, -20:] += 0.15
    values = np.clip(values, 0, 1)
    verdict = judge(panel_of(values), judged=40, calibration=calibrated)
    scored = ~np.isnan(values[:, -40:])
    share = np.array([verdict.is_anomaly[scored[:, day], day].mean() for day in range(40)])
    assert share[:7].min() > 0.85
    assert share[8:14].max() < 0.1
    assert share[15] > 0.85
    assert share[20:30].min() > 0.85
    assert share[-2:].max() < 0.2


def test_an_incident_of_some_widens_nobodys_bounds() -> None:
    values = calm(60, 170, seed=9)
    values[:4, -40:] = np.clip(values[:4, -40:] + 0.36, 0, 1)
    verdict = judge(panel_of(values), judged=40)
    widths = np.nanmedian((verdict.upper - verdict.yhat)[4:], axis=0)
    assert widths[20:].max() < 1.3 * widths[0]
    shifted = np.nanmedian((verdict.upper - verdict.yhat)[:4], axis=0)
    assert shifted[25:].max() < 2 * widths[0]


@pytest.mark.parametrize("shift", [-0.1, 0.1, 0.3, 0.75])
def test_a_level_however_far_off_is_the_normal_one_after_two_weeks(shift: float) -> None:
    values = calm(60, 160, seed=9)
    values[:, -30:] = np.clip(values[:, -30:] + shift, 0, 1)
    verdict = judge(panel_of(values), judged=30)
    told = np.array([np.flatnonzero(~np.isnan(row))[15:18] for row in values[:, -30:]])
    rows = np.arange(len(values))[:, None]
    assert (np.abs(values[:, -30:][rows, told] - verdict.yhat[rows, told]) < 0.08).mean() > 0.9


TIDY = calm(6, 100, seed=8)
TIDY[:, :3] = 0.2
DAY = np.arange(100)
UNTIDY = {
    "no templates": TIDY[:0],
    "one template": TIDY[:1],
    "one day": TIDY[:, :1],
    "no day": TIDY[:, :0],
    "nothing scored": np.full((3, 50), np.nan),
    "constant": np.full((3, 90), 0.2),
    "zeros": np.zeros((3, 90)),
    "ones": np.ones((3, 90)),
    "silent for months": np.where((DAY >= 20) & (DAY < 95), np.nan, TIDY),
    "gone": np.where(DAY >= 40, np.nan, TIDY),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", UNTIDY)
@pytest.mark.parametrize("count", [0, 100])
@pytest.mark.parametrize("method", METHODS)
def test_untidy_histories_get_bounds_or_silence_and_no_false_alarm(name: str, count: int, method: Method) -> None:
    values = UNTIDY[name]
    champions = np.full(len(values), METHODS.index(method), dtype=np.int8)
    verdict = judge(
        panel_of(values, np.where(np.isnan(values), 0.0, count)), thresholds=0.5, serving=Serving.by(champions)
    )
    assert not verdict.is_anomaly.any()
    ages = np.cumsum(~np.isnan(values), axis=1) - ~np.isnan(values)
    assert (np.isnan(verdict.upper) == (ages[:, -14:] < MIN_DAYS)).all()
    assert (np.isnan(verdict.ahead_yhat[:, 0]) == ((~np.isnan(values)).sum(axis=1) < MIN_DAYS)).all()
    assert set(np.unique(verdict.method)) <= set(range(len(METHODS)))


def test_a_constant_history_alarms_on_a_change_and_not_on_rounding() -> None:
    values = np.full((3, 90), 0.2)
    values[:, -1] = [0.2 + 1e-12, 0.204, 0.3]
    verdict = judge(panel_of(values))
    assert verdict.is_anomaly[:, -1].tolist() == [False, False, True]


def test_days_asked_for_by_name_are_those_judged(whole: Verdicts) -> None:
    asked = np.zeros(PANEL.values.shape, dtype=bool)
    asked[3, -2] = asked[5, -9] = True
    verdict = judge(PANEL, judged=asked, calibration=whole.calibrations, serving=SERVING)
    assert verdict.days == (whole.days[-9], whole.days[-2])
    assert verdict.days[1] == PANEL.first_day + timedelta(days=DAYS - 2)
    assert verdict.upper[5, 0] == whole.upper[5, -9]
    assert verdict.upper[3, 1] == whole.upper[3, -2]
    assert np.isnan(verdict.upper).sum() == verdict.upper.size - 2


def test_a_crossing_is_foreseen_where_a_level_nears_its_threshold(whole: Verdicts) -> None:
    probability = whole.p_crossing
    said = ~np.isnan(probability[:, 0])
    assert (np.diff(probability[said], axis=1) >= 0).all()
    assert ((probability[said] >= 0) & (probability[said] <= 1)).all()
    near = judge(PANEL, thresholds=np.where(np.arange(60) % 2, 0.0, 1.0), judged=1, calibration=whole.calibrations)
    almost = near.p_crossing[said][:, -1]
    assert ((almost < 0.002) | (almost > 0.998)).all()
    assert 0.3 < (almost > 0.5).mean() < 0.7
    assert np.isnan(judge(PANEL, judged=1, calibration=whole.calibrations).p_crossing).all()


@pytest.mark.parametrize("days", [1, 3, 7])
def test_who_has_been_far_off_beyond_a_threshold_for_days_is_not_said_to_be_sure_to_stay_below(days: int) -> None:
    values = PANEL.values.copy()
    values[:, -days:] = np.where(np.isnan(values[:, -days:]), np.nan, 0.99)
    said = judge(replace(PANEL, values=values), thresholds=0.98, judged=1).p_crossing[:, -1]
    grown_up = (~np.isnan(PANEL.values)).sum(axis=1) > 60
    stayed = (~np.isnan(values[:, -days:])).sum(axis=1)
    chosen = grown_up & (stayed == days)
    assert chosen.sum() > 10
    assert np.median(said[chosen]) >= days / (days + 1.0) - 0.01


def test_who_climbs_steeply_towards_a_threshold_is_said_to_cross_it() -> None:
    values = PANEL.values.copy()
    values[:, -10:] = np.where(np.isnan(values[:, -10:]), np.nan, np.linspace(0.3, 0.48, 10))
    climbing = judge(replace(PANEL, values=values), thresholds=0.5, judged=1).p_crossing[:, -1]
    chosen = ~np.isnan(values[:, -10:]).any(axis=1) & ((~np.isnan(PANEL.values)).sum(axis=1) > 60)
    assert chosen.sum() > 10
    assert np.median(climbing[chosen]) > 0.8
    # As far off and as scattered, but not climbing.
    values[:, -10:] = values[:, -10:][:, [4, 7, 1, 9, 2, 5, 8, 0, 6, 3]]
    level = judge(replace(PANEL, values=values), thresholds=0.5, judged=1).p_crossing[:, -1]
    assert np.median(level[chosen]) < 0.5 * np.median(climbing[chosen])
