"""What every route that takes records does, whatever they look like on the wire: receive, judge the allowance, land.

Belongs here: the one way from a request to `land()`. Does not belong here: formats (`record_lines`), answers
(`ingest_routes`).
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus

from fastapi import Request

from assets.evaluations.landing import InTransaction, land
from assets.evaluations.verdicts import Kind, Line, Receipt
from gateway.bodies import received
from gateway.in_flight import InFlight
from gateway.metrics import Metrics, verdicts
from gateway.observation import Notes, notes_of
from gateway.options import DoorOptions
from gateway.problems import ProblemError
from storage.clock import Clock
from storage.database import Connection
from storage.limits import LimitReachedError, require_allowance
from storage.pool import Pool


class IngestDoor:
    """The parts that the routes for pushing share."""

    def __init__(self, pool: Pool, clock: Clock, budget: InFlight, metrics: Metrics, options: DoorOptions) -> None:
        self._pool = pool
        self._clock = clock
        self._budget = budget
        self._metrics = metrics
        self._options = options

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytes]:
        """The unpacked body, counted as in flight until the block ends; see `bodies.received` for what it raises."""
        async with received(request, self._budget, self._options.body_seconds) as body:
            notes_of(request).facts["bytes"] = len(body)
            yield body

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for landing, in autocommit mode; blocks, so it is for the thread pool."""
        with self._pool.connection() as connection:
            yield connection

    def land(
        self,
        connection: Connection,
        notes: Notes,
        tenant_id: str,
        kind: Kind,
        lines: Sequence[Line],
        *,
        door: str = "http",
        in_transaction: InTransaction | None = None,
    ) -> Receipt:
        """Land one batch, counted in metrics and noted for the log; true once it returns, because it is committed.

        Raises:
            ProblemError: 429, the tenant's month is full.
        """
        try:
            require_allowance(connection, tenant_id)
        except LimitReachedError as reached:
            raise _too_many(reached) from None
        now = self._clock.now()
        receipt = land(connection, tenant_id, kind, lines, door=door, now=now, in_transaction=in_transaction)
        self._metrics.landed(door, kind, receipt)
        notes.facts |= {"door": door, "batch_id": str(receipt.batch_id), **verdicts(receipt)}
        return receipt


def _too_many(reached: LimitReachedError) -> ProblemError:
    usage = reached.usage
    # One second more than is left: a client that comes back in the old month's last moment would wait in vain.
    headers = {"Retry-After": str(int(usage.ends_in.total_seconds()) + 1)}
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS, str(reached), headers=headers, limit=usage.limit, accepted=usage.accepted
    )
