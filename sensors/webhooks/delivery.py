"""Draining the outbox: due deliveries are claimed, signed, sent a few at a time, and their results written.

Belongs here: who is sent when, and that nothing of one delivery stops the others. Does not belong here: the rows
(`claims`), the wire (`transport`). Any number of drains may run at once, in any number of processes.
"""

import asyncio
import random
import re
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog

from sensors.webhooks.addresses import Network
from sensors.webhooks.bodies import body_to_send
from sensors.webhooks.claims import LEASE, Claim, claim, settle
from sensors.webhooks.keys import open_endpoint
from sensors.webhooks.signing import sign
from sensors.webhooks.transport import DEADLINE_SECONDS, Answer, Transport
from sensors.webhooks.urls import without_secrets
from storage.clock import Clock
from storage.database import Connection
from storage.errors import TidemarkError
from storage.secrets import SecretBox

_log = structlog.get_logger()
_FITS_A_HEADER = re.compile(r"[!-~]{1,200}")

_DUE = """
select count(*)
from alerting.webhook_deliveries as deliveries
inner join alerting.webhooks on deliveries.webhook_id = webhooks.webhook_id
where
    webhooks.status = 'active'
    and (
        (deliveries.state in ('pending', 'retry') and deliveries.next_attempt_at <= %(now)s)
        or (deliveries.state = 'in_flight' and deliveries.lease_until <= %(now)s)
    )
"""

_BEAT = """
insert into alerting.heartbeats (worker, beat_at) values ('webhook_deliveries', clock_timestamp())
on conflict (worker) do update set beat_at = excluded.beat_at
"""


@dataclass(frozen=True)
class Options:
    """How to deliver.

    Attributes:
        allowed: networks that may be reached although not public.
        deadline: seconds for one exchange; the lease is well longer.
        concurrency: requests under way at once.
        seconds: after these nothing new is claimed; what is under way may take `deadline` more.
        lease: how long a claim stands.
        verify: certificates to trust; those of the system if None.
        jitter: source of the retries' jitter.
        page_url: what messages to Slack and Teams link to.
    """

    allowed: Sequence[Network] = ()
    deadline: float = DEADLINE_SECONDS
    concurrency: int = 16
    seconds: float = 40.0
    lease: timedelta = LEASE
    verify: ssl.SSLContext | None = None
    jitter: random.Random = field(default_factory=random.SystemRandom)
    page_url: str | None = None


@dataclass(frozen=True)
class DrainResult:
    """Deliveries by what became of them, and how many are still due."""

    delivered: int = 0
    retried: int = 0
    failed: int = 0
    superseded: int = 0
    left: int = 0

    @property
    def attempted(self) -> int:
        """Requests made, or given up before they could be made."""
        return self.delivered + self.retried + self.failed + self.superseded

    def message(self) -> str:
        """One line, for a tick or for the command line."""
        if not self.attempted:
            return f"nothing sent; {self.left} due" if self.left else "nothing due"
        parts = [f"{self.delivered} delivered"]
        parts += [f"{self.retried} to be tried again"] if self.retried else []
        parts += [f"{self.failed} failed for good"] if self.failed else []
        parts += [f"{self.superseded} finished too late to count"] if self.superseded else []
        parts += [f"{self.left} still due"] if self.left else []
        return ", ".join(parts)


def drain(
    connect: Callable[[], AbstractContextManager[Connection]],
    box: SecretBox,
    clock: Clock,
    options: Options | None = None,
) -> DrainResult:
    """Deliver what is due until nothing is, or the time is up.

    Args:
        connect: makes an autocommit connection in UTC.
        box: opens the endpoints' secrets.
        clock: decides what is due and until when a claim stands.
        options: see `Options`.
    """
    options = options or Options()
    with connect() as connection:
        # So that an outbox that nobody drains is seen from outside, also while nothing is due.
        connection.execute(_BEAT)
        # Looked at first: a transport loads the system's certificates, too dear for every idle tick.
        if not due(connection, clock):
            return DrainResult()
        counted = asyncio.run(_Drain(connection, box, clock, options).run())
        return DrainResult(
            delivered=counted["delivered"],
            retried=counted["retry"],
            failed=counted["failed"],
            superseded=counted[None],
            left=due(connection, clock),
        )


def due(connection: Connection, clock: Clock) -> int:
    """How many deliveries could be claimed now."""
    row = connection.execute(_DUE, {"now": clock.now()}).fetchone()
    return int(row[0]) if row else 0


class _Drain:
    def __init__(self, connection: Connection, box: SecretBox, clock: Clock, options: Options) -> None:
        self._connection = connection
        self._box = box
        self._clock = clock
        self._options = options

    async def run(self) -> Counter[str | None]:
        counted: Counter[str | None] = Counter()
        end = time.monotonic() + self._options.seconds
        under_way: set[asyncio.Task[str | None]] = set()
        options = self._options
        async with Transport(options.allowed, deadline=options.deadline, verify=options.verify) as transport:
            while True:
                free = options.concurrency - len(under_way) if time.monotonic() < end else 0
                claims = claim(self._connection, self._clock.now(), free, options.lease) if free else ()
                under_way |= {asyncio.create_task(self._deliver(transport, owned)) for owned in claims}
                if not under_way:
                    return counted
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                counted.update(task.result() for task in done)

    async def _deliver(self, transport: Transport, owned: Claim) -> str | None:
        log = _log.bind(
            correlation_id=owned.correlation_id,
            tenant=owned.tenant_id,
            delivery_id=str(owned.delivery_id),
            webhook_id=str(owned.webhook_id),
            event_type=owned.event_type,
            attempt=owned.attempt,
        )
        try:
            answer = await self._exchange(transport, owned)
        except TidemarkError as unusable:
            answer = Answer(None, str(unusable))
        except Exception as unforeseen:
            # One delivery that breaks the sender must not stop the others, nor be claimed again for ever.
            log.exception("webhook delivery broke")
            answer = Answer(None, f"internal error: {type(unforeseen).__name__}")
        outcome = settle(self._connection, owned, answer, self._clock.now(), self._options.jitter).outcome
        log.info("webhook delivery", outcome=outcome or "superseded", status=answer.status_code, error=answer.error)
        return outcome

    async def _exchange(self, transport: Transport, owned: Claim) -> Answer:
        now = self._clock.now()
        endpoint = open_endpoint(self._connection, self._box, owned.webhook_id, now)
        page_url = self._options.page_url
        body = body_to_send(self._connection, owned.delivery_id, endpoint.format, owned.body, page_url)
        signature = sign(body, endpoint.secrets, delivery_id=owned.delivery_id, event_type=owned.event_type, at=now)
        headers = {"Content-Type": "application/json", **signature}
        # A record may name any text as its own, and a header can't carry it all; the body does.
        if owned.correlation_id is not None and _FITS_A_HEADER.fullmatch(owned.correlation_id):
            headers["X-Correlation-ID"] = owned.correlation_id
        return _safe_to_keep(await transport.post(endpoint.url, body, headers), endpoint.url)


def _safe_to_keep(answer: Answer, url: str) -> Answer:
    error = None if answer.error is None else without_secrets(answer.error.encode(), url).decode()
    return replace(answer, error=error, response=without_secrets(answer.response, url))
