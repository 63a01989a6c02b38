"""Silence is judged by a sender's own past: what that costs in false alarms, and when it is noticed."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from assets.evaluations.rhythm import ALPHA, FEWEST_GAPS, MOST_WEEKS, rhythm_of

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)
Sends = Callable[[datetime, random.Random], bool]


def poisson(rate: float) -> Sends:
    """By chance at any hour."""
    return lambda _, chance: chance.random() < rate


def office_hours(hour: datetime, chance: random.Random) -> bool:
    """By chance, from nine to five on weekdays."""
    return hour.weekday() < 5 and 9 <= hour.hour < 17 and chance.random() < 0.5


def nightly_on_weekdays(hour: datetime, _chance: random.Random) -> bool:
    """One batch at two in the night."""
    return hour.weekday() < 5 and hour.hour == 2


def mornings_sooner_or_later(hour: datetime, chance: random.Random) -> bool:
    """Each day at six, seven or eight."""
    return hour.hour in (6, 7, 8) and chance.random() < 0.6


def always(_hour: datetime, _chance: random.Random) -> bool:
    """Each hour."""
    return True


def arrivals_of(sends: Sends, weeks: int, seed: int = 1) -> list[datetime]:
    chance = random.Random(seed)  # noqa: S311
    hours = (MONDAY + hour * HOUR for hour in range(weeks * 168))
    return [hour for hour in hours if sends(hour, chance)]


def false_alarms(arrivals: list[datetime]) -> tuple[int, int, float]:
    """Judge each gap by the arrivals before it: how many were alarms, of how many, and how many were to be feared."""
    alarms, judged, feared = 0, 0, 0.0
    for number in range(FEWEST_GAPS, len(arrivals) - 1):
        past = [arrival for arrival in arrivals[max(0, number - 1400) : number + 1]]
        rhythm = rhythm_of(past)
        if rhythm is not None:
            judged += 1
            feared += max(float(ALPHA), 1 / (rhythm.gaps + 1))
            alarms += arrivals[number + 1] >= rhythm.silent_from
    return alarms, judged, feared


@pytest.mark.parametrize(
    ("sends", "weeks"),
    [(poisson(0.5), 16), (poisson(0.05), 90), (poisson(0.2), 26), (office_hours, 40), (mornings_sooner_or_later, 40)],
)
def test_a_gap_of_an_irregular_sender_is_taken_for_silence_no_more_often_than_the_bound_says(
    sends: Sends, weeks: int
) -> None:
    alarms, judged, feared = false_alarms(arrivals_of(sends, weeks))
    assert judged > 400
    assert alarms <= binom.ppf(0.999, judged, feared / judged)


@pytest.mark.parametrize("sends", [nightly_on_weekdays, always])
def test_a_regular_sender_is_never_taken_for_silent(sends: Sends) -> None:
    alarms, judged, _ = false_alarms(arrivals_of(sends, 16))
    assert (alarms, judged > 50) == (0, True)


def test_the_first_batch_that_stays_out_is_noticed_two_hours_later_and_a_weekend_is_no_silence() -> None:
    arrivals = arrivals_of(nightly_on_weekdays, 8)
    assert arrivals[-1] == MONDAY + 8 * WEEK - 3 * DAY + 2 * HOUR, "a Friday"
    rhythm = rhythm_of(arrivals)
    assert rhythm is not None
    assert (rhythm.is_regular, rhythm.usual) == (True, 0)
    assert rhythm.silent_from == MONDAY + 8 * WEEK + 5 * HOUR, "the Monday after: the hour from two, and two more"
    tuesday = rhythm_of([*arrivals, MONDAY + 8 * WEEK + 2 * HOUR])
    assert tuesday is not None
    assert tuesday.silent_from == MONDAY + 8 * WEEK + DAY + 5 * HOUR


def test_who_sends_all_the_time_is_missed_within_hours_also_after_earlier_outages() -> None:
    arrivals = arrivals_of(always, 8)
    outages = {MONDAY + days * DAY + hours * HOUR for days in (10, 25, 40) for hours in range(9)}
    rhythm = rhythm_of([arrival for arrival in arrivals if arrival not in outages])
    assert rhythm is not None
    assert timedelta(hours=3) <= rhythm.silent_from - arrivals[-1] <= timedelta(hours=5)


def test_by_chance_alone_is_no_regular_rhythm_and_a_short_past_is_none() -> None:
    irregular = rhythm_of(arrivals_of(poisson(0.2), MOST_WEEKS))
    assert irregular is not None
    assert not irregular.is_regular
    assert rhythm_of([]) is None
    assert rhythm_of(arrivals_of(always, 4)[:-2]) is None
    assert rhythm_of([MONDAY + number * WEEK for number in range(30)]) is None


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 10 * 168), max_size=400), st.integers(0, 59), st.integers(0, 300))
def test_whatever_the_past_silence_begins_after_the_last_arrival_and_old_or_repeated_arrivals_change_nothing(
    past: set[int], minutes: int, weeks_later: int
) -> None:
    arrivals = [MONDAY + hour * HOUR for hour in sorted(past)]
    rhythm = rhythm_of(arrivals)
    later = [arrival + weeks_later * WEEK for arrival in arrivals]
    moved = rhythm_of(sorted([*later, *(arrival + timedelta(minutes=minutes) for arrival in later)]))
    assert (rhythm is None) == (moved is None)
    if rhythm is not None and moved is not None:
        assert rhythm.silent_from >= arrivals[-1].replace(minute=0) + 4 * HOUR
        assert moved.silent_from == rhythm.silent_from + weeks_later * WEEK
        old = rhythm_of([arrivals[0] - 20 * WEEK, *arrivals])
        weeks = (arrivals[-1] - arrivals[0]) // WEEK
        assert weeks < MOST_WEEKS or old == rhythm
