"""One connection, used by one piece of work at a time, off the event loop; mended if it breaks.

Belongs here: threads, connecting again. Does not belong here: what the work is.
"""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

import psycopg
import structlog

from storage.database import Connection
from storage.errors import DatabaseUnavailableError

_LONGEST_PAUSE_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.05
_T = TypeVar("_T")
_log = structlog.get_logger()

Connect = Callable[[], AbstractContextManager[Connection]]


class Lane:
    """Runs work on a connection of its own, in a thread, so that requests go on while PostgreSQL is waited for."""

    def __init__(self, connect: Connect, *, patient: bool) -> None:
        """Make a lane; it connects when it is first used.

        Args:
            connect: makes an autocommit connection in UTC.
            patient: whether work that fails because the server went away is done again as soon as it is back, however
                long that takes; else it raises.
        """
        self._connect = connect
        self._patient = patient
        self._stack = ExitStack()
        self._connection: Connection | None = None

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        """Do one piece of work, which commits by itself and may be done again if its commit's answer was lost."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await asyncio.to_thread(self._run, work)
            except (psycopg.OperationalError, psycopg.InterfaceError, DatabaseUnavailableError) as error:
                self.close()
                if not self._patient:
                    raise
                _log.warning("the database does not answer", error=str(error).strip()[:200], again_in_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def close(self) -> None:
        """End the connection; the next work makes a new one."""
        stack, self._stack, self._connection = self._stack, ExitStack(), None
        # A connection that is broken already may not be ended in order.
        with contextlib.suppress(psycopg.Error):
            stack.close()

    def _run(self, work: Callable[[Connection], _T]) -> _T:
        if self._connection is None:
            self._connection = self._stack.enter_context(self._connect())
        return work(self._connection)
