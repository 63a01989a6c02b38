"""Time as the client sees it, so that tests of hours of waiting take none."""

import threading
import time
from datetime import UTC, datetime


class Clock:
    """The system's time."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC: what HTTP dates and records speak of."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never jump: what deadlines are counted in."""
        return time.monotonic()

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Let so many seconds pass, or fewer if it is time to stop."""
        stop.wait(seconds)
