"""The clock, handed to whatever needs the time, so that tests can set it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """Tells the time; `now()` is aware and in UTC."""

    now: Callable[[], datetime] = _utc_now
