"""What is recommended, in memory: read once a tenant, and again in the background when another recommendation holds.

Belongs here: how long what was read may be served. Does not belong here: SQL (`assets.selection.published`).
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from assets.selection.published import CHANNEL, read_recommendation, read_recommendations
from assets.selection.recommend import Recommendation
from gateway.pages import seeing
from storage.listening import listen
from storage.pool import Pool
from storage.postgres_url import PostgresUrl

# A notification can be lost; what was read so long ago is read again.
_SILENCE_SECONDS = 60.0
_MOST_TENANTS = 1000

_log = structlog.get_logger()


class _Kept(NamedTuple):
    read_at: float
    found: Mapping[str, Recommendation]


@dataclass(eq=False)
class _Reading:
    tenant_id: str
    is_late: bool = False


class RecommendationBoard:
    """A tenant's recommendations by template; threads may ask at once."""

    def __init__(self, pool: Pool, url: PostgresUrl) -> None:
        self._pool = pool
        self._url = url
        self._known: dict[str, _Kept] = {}
        self._readings: set[_Reading] = set()
        self._asked: set[str] = set()
        self._heard: set[str] = set()
        self._lock = threading.Lock()
        self._awake = asyncio.Event()

    def find(self, tenant_id: str, template: str) -> Recommendation:
        """The recommendation for a template, from memory where it is there.

        Raises:
            NotFoundError: the tenant has no such template.
            ConflictError: nothing is published for it yet.
            ProblemError: the database needed too long.
        """
        self._asked.add(tenant_id)
        kept = self._known.get(tenant_id)
        found = (self._read(tenant_id) if kept is None else kept.found).get(template)
        if found is not None:
            return found
        # Not there: the database says whether it is new, unknown or without feedback.
        with seeing(self._pool, tenant_id) as connection:
            return read_recommendation(connection, tenant_id, template)

    async def keep(self) -> None:
        """Read again what is heard to have changed, until cancelled."""
        listening = asyncio.create_task(listen(self._url, {CHANNEL: self._hear}))
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        await self._awake.wait()
                self._awake.clear()
                for tenant_id in self._due():
                    if tenant_id in self._asked:
                        self._asked.discard(tenant_id)
                        await asyncio.to_thread(self._refresh, tenant_id)
                    else:
                        self._known.pop(tenant_id, None)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    def _hear(self, tenant_id: str) -> None:
        # An empty one: the ear was deaf for a while.
        with self._lock:
            self._heard |= {tenant_id} if tenant_id else set(self._known)
            for reading in self._readings:
                reading.is_late |= tenant_id in ("", reading.tenant_id)
        self._awake.set()

    def _due(self) -> list[str]:
        with self._lock:
            heard, self._heard = self._heard, set()
            old = time.monotonic() - _SILENCE_SECONDS
            return [tenant_id for tenant_id, kept in self._known.items() if tenant_id in heard or kept.read_at <= old]

    def _refresh(self, tenant_id: str) -> None:
        try:
            self._read(tenant_id)
        except Exception:
            # What was read before is better than nothing; the ear that is connected again says to read again.
            _log.exception("recommendations could not be read", tenant=tenant_id)

    def _read(self, tenant_id: str) -> Mapping[str, Recommendation]:
        reading, read_at = _Reading(tenant_id), time.monotonic()
        with self._lock:
            self._readings.add(reading)
        try:
            with seeing(self._pool, tenant_id) as connection:
                found = read_recommendations(connection, tenant_id)
        finally:
            with self._lock:
                self._readings.remove(reading)
        with self._lock:
            kept = self._known.get(tenant_id)
            # Another thread may have read later and come back sooner.
            if kept is not None and kept.read_at > read_at:
                return kept.found
            # What changed while it was read may not be in it: it answers who asked, and is read again for the next.
            if not reading.is_late:
                if kept is None and len(self._known) >= _MOST_TENANTS:
                    del self._known[next(iter(self._known))]
                self._known[tenant_id] = _Kept(read_at, found)
        return found
