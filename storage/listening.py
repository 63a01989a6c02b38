"""An ear on PostgreSQL: callbacks for what is notified, over a connection that is made again when it is lost.

Belongs here: LISTEN and the life of its connection. Does not belong here: what a notification means; one that is lost
must cost whoever listens no more than time.
"""

import asyncio
from collections.abc import Callable, Mapping

import psycopg
import structlog
from psycopg import sql

from storage.database import CONNECTION_PARAMETERS
from storage.postgres_url import PostgresUrl

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0
_PROBE_SECONDS = 10.0

Ears = Mapping[str, Callable[[str], None]]

_log = structlog.get_logger()


async def listen(url: PostgresUrl, ears: Ears) -> None:
    """Call the ear of each channel that is notified, until cancelled.

    Args:
        url: whose notifications; it may go away and come back.
        ears: by channel, what to call with a notification's payload; with an empty one whenever the connection was made
            anew, since what was notified while nobody listened is lost.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            connection = await psycopg.AsyncConnection.connect(url.libpq(), autocommit=True, **CONNECTION_PARAMETERS)
            async with connection:
                for channel in ears:
                    await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
                for hear in ears.values():
                    hear("")
                pause = _FIRST_PAUSE_SECONDS
                await _hear(connection, ears)
        except (psycopg.Error, OSError, TimeoutError) as error:
            _log.warning("not listening", error=str(error).strip()[:200], again_in_seconds=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _hear(connection: psycopg.AsyncConnection, ears: Ears) -> None:
    while True:
        async for notification in connection.notifies(timeout=_PROBE_SECONDS):
            ears[notification.channel](notification.payload)
        # A peer that is gone without a word would never be noticed by listening alone.
        async with asyncio.timeout(_PROBE_SECONDS):
            await connection.execute("select 1")
