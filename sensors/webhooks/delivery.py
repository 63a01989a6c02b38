"""Draining the outbox: due deliveries are claimed, signed, sent, and their results written.

Belongs here: who is sent when, and that nothing of one delivery stops the others. Does not belong here: the rows
(`claims`, `settling`), the wire (`transport`), waiting for notifications (`sensors.dispatcher`). Any number of drains
may run at once, in any number of processes.
"""

import asyncio
import contextlib
import random
import re
import ssl
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import structlog

from sensors.webhooks.addresses import Network
from sensors.webhooks.bodies import body_to_send
from sensors.webhooks.claims import LEASE, Claim, claim, due, next_due
from sensors.webhooks.giving_up import give_up
from sensors.webhooks.keys import OpenEndpoint, open_endpoint
from sensors.webhooks.lanes import Connect, Lane
from sensors.webhooks.parking import MOST_COUNTED, count_parked, sweep
from sensors.webhooks.settling import Outcome, Result, settle
from sensors.webhooks.signing import sign
from sensors.webhooks.transport import DEADLINE_SECONDS, Answer, Transport
from sensors.webhooks.urls import without_secrets
from storage.clock import Clock
from storage.database import Connection
from storage.errors import TidemarkError
from storage.secrets import SecretBox

_log = structlog.get_logger()
_FITS_A_HEADER = re.compile(r"[!-~]{1,200}")
_SWEEP_SECONDS = 1.0
_BEAT_SECONDS = 5.0
# A claim that found something may have been cut short by its share: asked again soon, together with first results.
_SOON_SECONDS = 0.005
_TAKEN_SECONDS = 0.2
_WORTH_WAITING_SECONDS = 1.0
_LAST_WORD_SECONDS = 5.0
_PATIENT_WITH_RESULTS = 3

_BEAT = """
insert into alerting.heartbeats (worker, beat_at) values (%(worker)s, clock_timestamp())
on conflict (worker) do update set beat_at = excluded.beat_at
"""


@dataclass(frozen=True)
class Options:
    """How to deliver.

    Attributes:
        allowed: networks that may be reached although not public.
        deadline: seconds for one exchange; the lease is well longer.
        concurrency: requests under way at once.
        seconds: of `drain`: after these nothing new is claimed; what is under way may take `deadline` more.
        lease: how long a claim stands.
        verify: certificates to trust; those of the system if None.
        jitter: source of the retries' jitter, and of whose turn it is among equals.
        page_url: what messages to Slack and Teams link to.
    """

    allowed: Sequence[Network] = ()
    deadline: float = DEADLINE_SECONDS
    concurrency: int = 64
    seconds: float = 40.0
    lease: timedelta = LEASE
    verify: ssl.SSLContext | None = None
    jitter: random.Random = field(default_factory=random.SystemRandom)
    page_url: str | None = None


@dataclass(frozen=True)
class DrainResult:
    """Deliveries by what became of them; how many are still due, and how many wait for endpoints that fail."""

    delivered: int = 0
    retried: int = 0
    failed: int = 0
    superseded: int = 0
    left: int = 0
    parked: int = 0

    @property
    def attempted(self) -> int:
        """Requests made, or given up before they could be made."""
        return self.delivered + self.retried + self.failed + self.superseded

    def message(self) -> str:
        """One line, for a tick or for the command line."""
        aside = [f"{self.parked}{' or more' if self.parked >= MOST_COUNTED else ''} parked"] if self.parked else []
        if not self.attempted:
            return "; ".join([f"nothing sent; {self.left} due" if self.left else "nothing due", *aside])
        parts = [f"{self.delivered} delivered"]
        parts += [f"{self.retried} to be tried again"] if self.retried else []
        parts += [f"{self.failed} failed for good"] if self.failed else []
        parts += [f"{self.superseded} finished too late to count"] if self.superseded else []
        parts += [f"{self.left} still due"] if self.left else []
        return ", ".join(parts + aside)


def drain(connect: Connect, box: SecretBox, clock: Clock, options: Options | None = None) -> DrainResult:
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
        beat(connection, "webhook_deliveries")
        # Parks what has become due behind an open breaker.
        claim(connection, clock.now(), 0)
        give_up(connection, clock.now())
        # Looked at first: a transport loads the system's certificates, too dear for every idle tick.
        if not due(connection, clock.now()):
            return DrainResult(parked=count_parked(connection))
    counted = asyncio.run(_drain(connect, box, clock, options))
    with connect() as connection:
        return DrainResult(
            delivered=counted["delivered"],
            retried=counted["retry"],
            failed=counted["failed"],
            superseded=counted[None],
            left=due(connection, clock.now()),
            parked=count_parked(connection),
        )


def beat(connection: Connection, worker: str) -> None:
    """Say that a worker is at work."""
    connection.execute(_BEAT, {"worker": worker})


async def _drain(connect: Connect, box: SecretBox, clock: Clock, options: Options) -> Counter[Outcome | None]:
    lane = Lane(connect, patient=False)
    async with Transport(options.allowed, deadline=options.deadline, verify=options.verify) as transport:
        deliverer = Deliverer(lane, box, clock, options, transport)
        try:
            await deliverer.until_idle(options.seconds)
        finally:
            lane.close()
    return deliverer.counted


@dataclass(frozen=True)
class _Letter:
    """What a claim is to send, and where: rendered, if need be, and signed in the transaction that claims it.

    That has the endpoint's row locked, so that a secret that was ended signs nothing once that is committed.
    """

    url: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class _Round:
    """What one visit to the database brought; a claim that can't be sent has the reason in its letter's stead."""

    outcomes: Sequence[Outcome | None]
    claims: Sequence[tuple[Claim, _Letter | str]]
    pause: float | None


class Deliverer:
    """Claims, sends and settles in one event loop; each visit to the database settles and claims in one transaction."""

    def __init__(self, lane: Lane, box: SecretBox, clock: Clock, options: Options, transport: Transport) -> None:
        self.counted: Counter[Outcome | None] = Counter()
        self._lane = lane
        self._box = box
        self._clock = clock
        self._options = options
        self._transport = transport
        self._under_way: set[asyncio.Task[None]] = set()
        self._finished: list[Result] = []
        self._news = asyncio.Event()
        self._sweep_at = 0.0
        self._beat_at = 0.0

    def wake(self) -> None:
        """Look for due deliveries now."""
        self._news.set()

    async def until_idle(self, seconds: float) -> None:
        """Deliver until nothing is due that this drain could have, or the time is up."""
        end = time.monotonic() + seconds
        while True:
            is_open = time.monotonic() < end
            visit = await self._visit(claiming=is_open)
            is_near = visit.pause is not None and 0 < visit.pause <= _WORTH_WAITING_SECONDS
            if not self._under_way and not self._finished and not (is_open and is_near):
                return
            await self._wait(visit.pause)

    async def until(self, stopped: asyncio.Event, worker: str, grace: float) -> None:
        """Deliver, at once when woken, until `stopped`; then let what is under way come to its end.

        Args:
            stopped: set by whoever wants an end, who also calls `wake`.
            worker: under what name to say that it is at work.
            grace: seconds that requests under way have after that. What takes longer is sent again, when its lease has
                run out.
        """
        broken = 0
        while not stopped.is_set():
            try:
                visit = await self._visit(claiming=True, worker=worker)
            except Exception:
                # A row or result that nothing can be done with must not end the others' deliveries.
                _log.exception("the dispatcher's visit to the database broke")
                broken += 1
                if broken >= _PATIENT_WITH_RESULTS:
                    self._finished.clear()
                await asyncio.sleep(_SWEEP_SECONDS)
                continue
            broken = 0
            await self._wait(visit.pause)
        if self._under_way:
            await asyncio.wait(list(self._under_way), timeout=grace)
        for task in list(self._under_way):
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await self._visit(claiming=False)

    async def _wait(self, pause: float | None) -> None:
        # Due, and yet not to be had: another drainer has the endpoint's row or all its requests.
        seconds = _TAKEN_SECONDS if pause is not None and pause <= 0 else pause
        try:
            async with asyncio.timeout(min(_BEAT_SECONDS, seconds or _BEAT_SECONDS)):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()

    async def _visit(self, *, claiming: bool, worker: str | None = None) -> _Round:
        finished = list(self._finished)
        free = self._options.concurrency - len(self._under_way) if claiming else 0
        visit = await self._lane.run(lambda connection: self._round(connection, finished, free, worker))
        # Forgotten only now that they are committed: a connection that breaks takes no result along.
        del self._finished[: len(finished)]
        self.counted.update(visit.outcomes)
        for result, outcome in zip(finished, visit.outcomes, strict=True):
            _tell(result, outcome)
        for owned, letter in visit.claims:
            task = asyncio.create_task(self._deliver(owned, letter))
            self._under_way.add(task)
        return visit

    def _round(self, connection: Connection, finished: Sequence[Result], free: int, worker: str | None) -> _Round:
        now = self._clock.now()
        elapsed = time.monotonic()
        options = self._options
        with connection.transaction():
            outcomes = settle(connection, finished, now, options.jitter) if finished else ()
            swept = 0
            if elapsed >= self._sweep_at:
                swept = sweep(connection, now) + give_up(connection, now)
                self._sweep_at = elapsed + (0 if swept else _SWEEP_SECONDS)
            claims = claim(connection, now, free, options.lease, options.jitter) if free > 0 else ()
            endpoints = {webhook_id: self._endpoint(connection, webhook_id) for webhook_id in _endpoints(claims)}
            letters = [(owned, self._letter(connection, owned, endpoints[owned.webhook_id])) for owned in claims]
            if worker is not None and elapsed >= self._beat_at:
                beat(connection, worker)
                self._beat_at = elapsed + _BEAT_SECONDS / 2
            pause = _SOON_SECONDS if claims or swept else self._pause(connection, now)
        return _Round(outcomes, letters, pause)

    def _pause(self, connection: Connection, now: datetime) -> float | None:
        due_at = next_due(connection, now)
        return None if due_at is None else (due_at - now).total_seconds()

    def _endpoint(self, connection: Connection, webhook_id: UUID) -> OpenEndpoint | str:
        try:
            return open_endpoint(connection, self._box, webhook_id, self._clock.now())
        except TidemarkError as unusable:
            return str(unusable)

    def _letter(self, connection: Connection, owned: Claim, endpoint: OpenEndpoint | str) -> _Letter | str:
        if isinstance(endpoint, str):
            return endpoint
        try:
            body = body_to_send(connection, owned.delivery_id, endpoint.format, owned.body, self._options.page_url)
            return _Letter(endpoint.url, body, self._headers(owned, endpoint, body))
        except psycopg.Error:
            raise
        except Exception as unforeseen:
            # As below: an event that can't be rendered must not keep the others from being sent.
            _log.exception("an event could not be rendered", delivery_id=str(owned.delivery_id))
            return f"internal error: {type(unforeseen).__name__}"

    def _headers(self, owned: Claim, endpoint: OpenEndpoint, body: bytes) -> Mapping[str, str]:
        now = self._clock.now()
        signature = sign(body, endpoint.secrets, delivery_id=owned.delivery_id, event_type=owned.event_type, at=now)
        headers = {"Content-Type": "application/json", **signature}
        # A record may name any text as its own, and a header can't carry it all; the body does.
        if owned.correlation_id is not None and _FITS_A_HEADER.fullmatch(owned.correlation_id):
            headers["X-Correlation-ID"] = owned.correlation_id
        return headers

    async def _deliver(self, owned: Claim, letter: _Letter | str) -> None:
        try:
            answer = Answer(None, letter) if isinstance(letter, str) else await self._exchange(letter)
        except Exception as unforeseen:
            # One delivery that breaks the sender must not stop the others, nor be claimed again for ever.
            _log.exception("webhook delivery broke", delivery_id=str(owned.delivery_id))
            answer = Answer(None, f"internal error: {type(unforeseen).__name__}")
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._under_way.discard(task)
        self._finished.append(Result(owned, answer))
        self._news.set()

    async def _exchange(self, letter: _Letter) -> Answer:
        return _safe_to_keep(await self._transport.post(letter.url, letter.body, letter.headers), letter.url)


def _endpoints(claims: Sequence[Claim]) -> set[UUID]:
    return {owned.webhook_id for owned in claims}


def _tell(result: Result, outcome: Outcome | None) -> None:
    owned, answer = result.owned, result.answer
    _log.info(
        "webhook delivery",
        correlation_id=owned.correlation_id,
        tenant=owned.tenant_id,
        delivery_id=str(owned.delivery_id),
        webhook_id=str(owned.webhook_id),
        event_type=owned.event_type,
        attempt=owned.attempt,
        outcome=outcome or "superseded",
        status=answer.status_code,
        error=answer.error,
    )


def _safe_to_keep(answer: Answer, url: str) -> Answer:
    error = None if answer.error is None else without_secrets(answer.error.encode(), url).decode()
    return replace(answer, error=error, response=without_secrets(answer.response, url))
