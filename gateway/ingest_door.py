"""What every route that takes records does, whatever they look like on the wire: receive, judge the allowance, land.

Belongs here: the one way from a request to `land()`. Does not belong here: formats (`record_lines`), answers
(`ingest_routes`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from assets.evaluations.landing import InTransaction, Judged, judge, land_judged
from assets.evaluations.verdicts import Kind, Line, Receipt
from gateway.bodies import received
from gateway.in_flight import InFlight
from gateway.metrics import Metrics, verdicts
from gateway.observation import Notes, notes_of
from gateway.options import DoorOptions
from gateway.problems import ProblemError, unavailable
from gateway.rates import Rates
from storage.clock import Clock
from storage.database import Connection
from storage.limits import LimitReachedError, allowance
from storage.pool import MOST_CONNECTIONS, Pool

Result = TypeVar("Result")

_TURN_SECONDS = 5.0


class IngestDoor:
    """The parts that the routes for pushing share."""

    def __init__(self, pool: Pool, clock: Clock, budget: InFlight, metrics: Metrics, options: DoorOptions) -> None:
        self._pool = pool
        self._clock = clock
        self._budget = budget
        self._metrics = metrics
        self._options = options
        self._rates = Rates(options.records_a_second, clock)
        # As many as there are connections: more would only judge at once, and keep readers waiting for a thread.
        self._turns = asyncio.Semaphore(MOST_CONNECTIONS)

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytes]:
        """The unpacked body, counted as in flight until the block ends; see `bodies.received` for what it raises."""
        async with received(request, self._budget, self._options.body_seconds) as body:
            notes_of(request).facts["bytes"] = len(body)
            yield body

    async def in_turn(self, work: Callable[[], Result]) -> Result:
        """Do blocking work in the thread pool, a few at a time.

        Raises:
            ProblemError: 503, its turn did not come in time.
        """
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise unavailable("too many batches wait for the database; nothing was landed, send this again") from None
        try:
            return await run_in_threadpool(work)
        finally:
            self._turns.release()

    def judge(self, tenant_id: str, kind: Kind, lines: Sequence[Line]) -> Judged:
        """A batch by the contract and the door's clock; needs no connection, so none waits for it."""
        return judge(tenant_id, kind, lines, self._clock.now())

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for landing, in autocommit mode; blocks, so it is for the thread pool."""
        with self._pool.connection() as connection:
            yield connection

    def land(
        self,
        connection: Connection,
        notes: Notes,
        judged: Judged,
        *,
        door: str = "http",
        source: str | None = None,
        in_transaction: InTransaction | None = None,
    ) -> Receipt:
        """Land a batch, counted in metrics and noted for the log; true once it returns, because it is committed.

        Raises:
            ProblemError: 429, the tenant pushes too fast, or its month is full.
        """
        self._rates.require(judged.tenant_id)
        try:
            with allowance(connection, judged.tenant_id):
                receipt = land_judged(
                    connection,
                    judged,
                    door=door,
                    source=source,
                    correlation_id=notes.correlation_id,
                    in_transaction=in_transaction,
                )
        except LimitReachedError as reached:
            raise _too_many(reached) from None
        records = self._metrics.landed(door, judged.kind, receipt)
        self._rates.spend(judged.tenant_id, records)
        notes.facts |= {"door": door, "batch_id": str(receipt.batch_id), **verdicts(receipt)}
        return receipt

    def ignored(self, door: str, notes: Notes, records: int) -> None:
        """Count and note records that are none of the door's business."""
        self._metrics.ignored(door, records)
        notes.facts |= {"door": door, "ignored": records}


def _too_many(reached: LimitReachedError) -> ProblemError:
    usage = reached.usage
    # One second more than is left: a client that comes back in the old month's last moment would wait in vain.
    headers = {"Retry-After": str(int(usage.ends_in.total_seconds()) + 1)}
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS, str(reached), headers=headers, limit=usage.limit, accepted=usage.accepted
    )
