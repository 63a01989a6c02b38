"""How the deployment stands behind the door, asked at most every five seconds however often somebody looks.

Belongs here: remembering, and Dagster's own database. Does not belong here: what is counted (`sensors.backlog`), who
may look (`health`, `networks`).
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from sensors.backlog import read_backlog
from storage.clock import Clock
from storage.database import CONNECTION_PARAMETERS, Database
from storage.pool import Pool

REMEMBERED = timedelta(seconds=5)

_DAEMON = "select max(timestamp) from daemon_heartbeats"
# It is looked at beside the way: a Dagster database that hangs must not hold up who asks for the door's health.
_DAEMON_PATIENCE = {"connect_timeout": 2, "options": "-c timezone=UTC -c statement_timeout=2s"}


@dataclass(frozen=True)
class Standing:
    """What waits, and when the workers behind the door were last seen; see `sensors.backlog.Backlog`."""

    backlog_batches: int
    backlog_age_seconds: float
    deliveries: Mapping[str, int]
    endpoints_held_back: int
    dispatcher_seen_at: datetime | None
    sweeper_seen_at: datetime | None
    daemon_seen_at: datetime | None


class StandingBoard:
    """Answers how the deployment stands, from memory if it was asked just now."""

    def __init__(self, pool: Pool, database: Database, clock: Clock) -> None:
        self._pool = pool
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at: datetime | None = None
        self._standing: Standing | None = None

    def read(self) -> Standing | None:
        """How it stands; None if the platform's database does not answer."""
        with self._lock:
            now = self._clock.now()
            if self._asked_at is None or not timedelta(0) <= now - self._asked_at < REMEMBERED:
                self._standing = self._ask()
                self._asked_at = now
            return self._standing

    def _ask(self) -> Standing | None:
        try:
            with self._pool.connection() as connection:
                backlog = read_backlog(connection)
        except psycopg.Error:
            return None
        return Standing(
            backlog_batches=backlog.batches,
            backlog_age_seconds=backlog.age_seconds,
            deliveries=backlog.deliveries,
            endpoints_held_back=backlog.held_back,
            dispatcher_seen_at=backlog.dispatcher_seen_at,
            sweeper_seen_at=backlog.sweeper_seen_at,
            daemon_seen_at=self._daemon_seen_at(),
        )

    def _daemon_seen_at(self) -> datetime | None:
        try:
            with psycopg.connect(self._database.dagster.libpq(), **CONNECTION_PARAMETERS | _DAEMON_PATIENCE) as dagster:
                row = dagster.execute(_DAEMON).fetchone()
        except psycopg.Error:
            return None
        seen: datetime | None = row[0] if row else None
        # Dagster keeps UTC in a column without a zone.
        return None if seen is None else seen.replace(tzinfo=UTC)
