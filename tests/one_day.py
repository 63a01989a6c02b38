"""For tests in which PostgreSQL or a process of its own reads the machine's clock: midnight (UTC) falls into none."""

import time
from datetime import UTC, datetime, timedelta


def begin_a_day_if_it_is_near(margin: timedelta) -> None:
    """Wait until the next midnight (UTC) is over if it is nearer than `margin`: longer than the test takes."""
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    if midnight - now < margin:
        time.sleep((midnight - now).total_seconds() + 0.1)
