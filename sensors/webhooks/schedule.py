"""What an answer means and when to ask again: outcomes, retry profiles, `Retry-After`. Pure.

Does not belong here: whether an endpoint as a whole is still asked (`breaker`), the rows (`claims`, `settling`).

References:
    Standard Webhooks, specification 1.0, section Deliverability: the schedule of `standard`.
    RFC 9110, section 10.2.3: Retry-After.
"""

import random
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

PROFILES: Mapping[str, Sequence[timedelta]] = {
    "quick": (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30)),
    "standard": (
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        timedelta(hours=2),
        timedelta(hours=5),
        timedelta(hours=10),
        timedelta(hours=14),
        timedelta(hours=20),
        timedelta(hours=24),
    ),
}
MAX_JITTER = 0.1
MAX_RETRY_AFTER = timedelta(hours=24)
GONE = 410
_SAYS_WHEN = (429, 503)
_PASSES_BY_ITSELF = (408, 425, 429)

Verdict = Literal["delivered", "gone", "misconfigured", "failed"]


def verdict(status_code: int | None) -> Verdict:
    """What a status says; None where no answer came.

    `misconfigured` is what waiting won't mend: a redirect, or a refusal that is not about the moment. 2xx is delivered:
    the status line is the receipt, whatever follows it.
    """
    if status_code is None:
        return "failed"
    if 200 <= status_code < 300:  # noqa: PLR2004 - HTTP's own numbers
        return "delivered"
    if status_code == GONE:
        return "gone"
    if 300 <= status_code < 500 and status_code not in _PASSES_BY_ITSELF:  # noqa: PLR2004
        return "misconfigured"
    return "failed"


def next_attempt(
    profile: str, attempt: int, status_code: int | None, retry_after: str | None, now: datetime, jitter: random.Random
) -> datetime | None:
    """When a delivery is due again after an attempt that failed; None if that was its last.

    Args:
        profile: one of `PROFILES`.
        attempt: the one that failed, from 1.
        status_code: what was answered, if anything.
        retry_after: the answer's header as it came; heard with 429 and 503 alone, and only if it is later.
        now: aware.
        jitter: adds up to a tenth, so that what failed together does not come back together.
    """
    delays = PROFILES[profile]
    if attempt > len(delays):
        return None
    due = now + delays[attempt - 1] * (1 + MAX_JITTER * jitter.random())
    return max(due, asked_for(status_code, retry_after, now) or due)


def asked_for(status_code: int | None, retry_after: str | None, now: datetime) -> datetime | None:
    """Until when a 429 or 503 asks to be left alone, at most 24 hours from now; None without a word, or with junk."""
    if status_code not in _SAYS_WHEN or retry_after is None:
        return None
    text = retry_after.strip()
    if re.fullmatch(r"[0-9]{1,18}", text):
        return now + min(timedelta(seconds=min(int(text), 86_400)), MAX_RETRY_AFTER)
    try:
        until = parsedate_to_datetime(text)
        # A date without a zone, as `-0000` is read, is meant in UTC.
        until = until.replace(tzinfo=UTC) if until.tzinfo is None else until
        return min(until, now + MAX_RETRY_AFTER) if until > now else None
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
