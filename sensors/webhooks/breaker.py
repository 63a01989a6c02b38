"""Whether an endpoint is asked at all, and how much at once: its breaker, its token bucket, its turn. Pure.

Belongs here: an endpoint's standing before and after answers. Does not belong here: one delivery's retries
(`schedule`), the rows (`claims`, `settling`).

Closed, an endpoint is served. An answer that waiting won't mend opens the breaker, and so do ten failures in a row;
while it is open nothing is sent and nothing spends an attempt. After a while one request probes it: a success closes
the breaker, anything else opens it again for longer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sensors.webhooks.schedule import PROFILES, Verdict

TRIP_AFTER = 10
LONGEST_PAUSE = timedelta(minutes=30)
TELL_AGAIN_AFTER = timedelta(hours=24)

Breaker = Literal["closed", "open", "half_open"]


@dataclass(frozen=True)
class Endpoint:
    """How an endpoint stands, as its row says.

    Attributes:
        in_flight: requests under way, of all drainers.
        failures: since the last success.
        trips: how often the breaker opened since the last success.
        failing_since: when it opened first since it was closed; says nothing while it is closed.
        told_at: when the operator was last told that it opened.
        tokens: of the bucket at `tokens_at`; counts where a rate is set.
    """

    webhook_id: UUID
    tenant_id: str
    retry_profile: str
    max_in_flight: int
    rate_per_second: float | None
    ordered: bool
    breaker: Breaker
    breaker_until: datetime | None
    breaker_reason: str | None
    failures: int
    trips: int
    failing_since: datetime | None
    told_at: datetime | None
    tokens: float
    tokens_at: datetime | None
    in_flight: int = 0

    def is_parked(self, now: datetime) -> bool:
        """Whether what is due waits, without an attempt, for the breaker."""
        return self.breaker == "open" and self.breaker_until is not None and self.breaker_until > now

    def tokens_now(self, now: datetime) -> float:
        """What the bucket holds now: at most a second's worth, at least room for one request."""
        if self.rate_per_second is None:
            return float(self.max_in_flight)
        full = max(1.0, self.rate_per_second)
        if self.tokens_at is None or self.tokens_at > now:
            # A clock that was set back must not hold an endpoint up until it is as late again.
            return full
        return min(full, self.tokens + self.rate_per_second * (now - self.tokens_at).total_seconds())

    def allowance(self, now: datetime) -> int:
        """How many requests may begin now.

        After failures fewer at once, down to one: an endpoint that hangs must not hold every slot until its deadline.
        """
        if self.is_parked(now):
            return 0
        most = 1 if self.breaker != "closed" else max(1, self.max_in_flight >> self.failures)
        return max(0, min(most - self.in_flight, int(self.tokens_now(now))))

    def ready_at(self, now: datetime) -> datetime:
        """From when on a request may begin, as far as breaker and bucket are concerned."""
        if self.is_parked(now) and self.breaker_until is not None:
            return self.breaker_until
        missing = 1 - self.tokens_now(now)
        return now + timedelta(seconds=missing / self.rate_per_second) if missing > 0 and self.rate_per_second else now


@dataclass(frozen=True)
class Seen:
    """One answer of an endpoint, as far as the endpoint's standing goes.

    Attributes:
        reason: why it failed, for people.
        asked_for: until when the endpoint asked to be left alone.
    """

    verdict: Verdict
    reason: str = ""
    asked_for: datetime | None = None


def after(endpoint: Endpoint, answers: Sequence[Seen], now: datetime) -> tuple[Endpoint, bool]:
    """How an endpoint stands after answers, in the order in which they came; and whether to tell that it opened."""
    tell = False
    for answer in answers:
        if answer.verdict == "delivered":
            endpoint = replace(endpoint, breaker="closed", breaker_until=None, failures=0, trips=0)
            continue
        endpoint = replace(endpoint, failures=endpoint.failures + 1)
        if endpoint.breaker == "open" and endpoint.is_parked(now):
            continue  # under way when it opened: tells nothing new
        if endpoint.breaker != "closed" or answer.verdict == "misconfigured" or endpoint.failures >= TRIP_AFTER:
            tell = tell or _is_news(endpoint, now)
            endpoint = _opened(endpoint, answer, now)
    return (replace(endpoint, told_at=now) if tell else endpoint), tell


def share(endpoints: Sequence[Endpoint], allowances: Mapping[UUID, int], slots: int) -> Sequence[tuple[Endpoint, int]]:
    """Divide free slots among endpoints that have something due: those with the least under way first, evenly."""
    waiting = sorted((endpoint for endpoint in endpoints if allowances[endpoint.webhook_id]), key=_under_way)[:slots]
    if not waiting:
        return []
    each = max(1, slots // len(waiting))
    return [(endpoint, min(each, allowances[endpoint.webhook_id])) for endpoint in waiting]


def _under_way(endpoint: Endpoint) -> tuple[int, int]:
    return endpoint.in_flight, endpoint.failures


def _is_news(endpoint: Endpoint, now: datetime) -> bool:
    return endpoint.breaker == "closed" and (endpoint.told_at is None or now - endpoint.told_at >= TELL_AGAIN_AFTER)


def _opened(endpoint: Endpoint, answer: Seen, now: datetime) -> Endpoint:
    delays = PROFILES[endpoint.retry_profile]
    until = now + min(delays[min(endpoint.trips, len(delays) - 1)], LONGEST_PAUSE)
    return replace(
        endpoint,
        failing_since=now if endpoint.breaker == "closed" else endpoint.failing_since,
        breaker="open",
        breaker_until=max(until, answer.asked_for or until),
        breaker_reason=answer.reason,
        trips=endpoint.trips + 1,
    )
