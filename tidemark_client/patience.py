"""When to try again: full-jitter exponential back-off, `Retry-After`, and when it is enough."""

import random
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tidemark_client.clock import Clock

FIRST_WAIT = 0.25
LONGEST_WAIT = 30.0


@dataclass(frozen=True)
class Patience:
    """How long a batch is tried, waits included.

    Attributes:
        deadline: seconds from the first attempt.
        max_attempts: how often at most.
        clock: the time.
        jitter: where the waits' chance comes from.
    """

    deadline: float
    max_attempts: int
    clock: Clock
    jitter: random.Random = field(default_factory=random.SystemRandom)

    def begin(self, until: float | None, stop: threading.Event) -> "Attempts":
        """Start counting; `until` (monotonic) may be sooner than the deadline, `stop` ends every wait."""
        ends = self.clock.monotonic() + self.deadline
        return Attempts(self, stop, ends if until is None else min(ends, until))


@dataclass
class Attempts:
    """The attempts at one batch."""

    patience: Patience
    stop: threading.Event
    ends: float
    made: int = 0

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, at least a moment."""
        return max(self.ends - self.patience.clock.monotonic(), 0.001)

    def again(self, retry_after: float | None) -> bool:
        """Wait for the next attempt's time; False at once if there is to be none, or only after the deadline.

        Args:
            retry_after: seconds that the server asked for.
        """
        self.made += 1
        # Chance over the whole width: senders that failed together must not come back together.
        wait = self.patience.jitter.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self.made, 20)))
        wait += retry_after or 0.0
        clock = self.patience.clock
        if self.made >= self.patience.max_attempts or clock.monotonic() + wait > self.ends or self.stop.is_set():
            return False
        clock.wait(wait, self.stop)
        return not self.stop.is_set()


def seconds_of(retry_after: str | None, now: datetime) -> float | None:
    """The seconds that a `Retry-After` header asks for, in seconds or as an HTTP date; None if it says nothing."""
    if not retry_after:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # An HTTP date is in GMT, also where it fails to say so.
    return max((date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds(), 0.0)
