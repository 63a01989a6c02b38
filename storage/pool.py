"""A pool of connections to the platform's database, for a process that answers many requests at once."""

from collections.abc import Mapping
from typing import Any

from psycopg_pool import ConnectionPool

from storage.database import CONNECTION_PARAMETERS, Connection
from storage.postgres_url import PostgresUrl

Pool = ConnectionPool[Connection]

_WAIT_SECONDS = 3.0
MOST_CONNECTIONS = 8


def connection_pool(url: PostgresUrl) -> Pool:
    """A pool that is still closed: `pool.open()` at start, `pool.close()` at the end.

    `with pool.connection() as connection:` commits at the end of the block and rolls back on an exception. It raises
    psycopg.OperationalError (PoolTimeout) if the server is away or every connection stays busy for three seconds.
    """
    # Nothing is prepared: a statement prepared before a mart gets a column fails after it.
    return _pool(url, "tidemark", {"prepare_threshold": None})


def landing_pool(url: PostgresUrl) -> Pool:
    """The same for landings, whose connections are in autocommit mode because a landing is its own transaction.

    Apart from the readers' pool, so that slow questions can't take the connections that records need.
    """
    return _pool(url, "tidemark-landing", {"autocommit": True})


def _pool(url: PostgresUrl, name: str, parameters: Mapping[str, Any]) -> Pool:
    # Each connection is asked before it is lent: when the server was restarted, a request waits a moment and succeeds.
    return ConnectionPool(
        url.libpq(),
        connection_class=Connection,
        kwargs={**CONNECTION_PARAMETERS, **parameters},
        min_size=1,
        max_size=MOST_CONNECTIONS,
        timeout=_WAIT_SECONDS,
        # Else its pauses grow to minutes, and a server that is back stays unseen as long.
        reconnect_timeout=_WAIT_SECONDS,
        check=ConnectionPool.check_connection,
        open=False,
        name=name,
    )
