"""What answers mean and when the next attempt is due, whatever an endpoint writes into its headers."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.webhooks.schedule import PROFILES, asked_for, next_attempt, verdict

NOW = datetime(2026, 5, 10, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("written", "later"),
    [
        ("120", timedelta(seconds=120)),
        (" 7 ", timedelta(seconds=7)),
        ("0", timedelta(0)),
        ("99999999999999999", 24 * HOUR),
        ("Sun, 10 May 2026 13:00:00 GMT", HOUR),
        ("Sunday, 10-May-26 13:00:00 GMT", HOUR),
        ("Sun May 10 13:00:00 2026", HOUR),
        ("Sun, 10 May 2026 13:00:00 -0000", HOUR),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 24 * HOUR),
        ("Sun, 10 May 2026 11:00:00 GMT", None),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("9" * 5000, None),
    ],
)
def test_retry_after_is_heard_as_seconds_or_as_a_date_and_junk_is_not(written: str, later: timedelta | None) -> None:
    for status in (429, 503):
        assert asked_for(status, written, NOW) == (None if later is None else NOW + later)
    assert asked_for(500, written, NOW) is None


@given(
    status=st.integers(100, 599) | st.none(),
    header=st.text(max_size=60)
    | st.integers().map(str)
    | st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %X")),
    attempt=st.integers(1, 12),
    profile=st.sampled_from(sorted(PROFILES)),
)
def test_no_answer_brings_a_retry_forward_or_puts_it_off_by_more_than_a_day(
    status: int | None, header: str, attempt: int, profile: str
) -> None:
    due = next_attempt(profile, attempt, status, header, NOW, random.Random(1))  # noqa: S311
    if attempt > len(PROFILES[profile]):
        assert due is None
        return
    assert due is not None
    scheduled = PROFILES[profile][attempt - 1]
    assert scheduled <= due - NOW <= max(scheduled * 1.1, 24 * HOUR)
    if status not in (429, 503):
        assert due - NOW <= scheduled * 1.1


def test_the_profiles_last_36_minutes_and_75_hours() -> None:
    assert sum(PROFILES["quick"], timedelta()) == timedelta(minutes=36)
    assert timedelta(hours=75) < sum(PROFILES["standard"], timedelta()) < timedelta(hours=76)


def test_what_waiting_mends_is_told_from_what_it_does_not() -> None:
    expected = {200: "delivered", 204: "delivered", 299: "delivered", 410: "gone"}
    expected |= dict.fromkeys((None, 100, 199, 408, 425, 429, 500, 503, 599), "failed")
    expected |= dict.fromkeys((300, 301, 307, 308, 400, 401, 403, 404, 405, 413, 422, 451, 499), "misconfigured")
    assert {status: verdict(status) for status in expected} == expected
