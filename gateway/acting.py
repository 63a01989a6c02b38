"""Administrative requests: one transaction with the platform's own rights, in the name of the key that asked.

Does not belong here: reads for everybody (`pages`), which see as a role that row-level security holds for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg

from gateway.problems import unavailable
from storage.api_keys import ApiKey
from storage.audit import acting_as
from storage.database import Connection
from storage.pool import Pool

STATEMENT_TIMEOUT = timedelta(seconds=5)

_BEGIN = "select set_config('statement_timeout', %(timeout)s, true)"


@contextmanager
def acting(pool: Pool, key: ApiKey) -> Iterator[Connection]:
    """A transaction whose audit entries name the key; committed at the end, so that an answer comes after the commit.

    Raises:
        ProblemError: the database needed too long; nothing was changed.
    """
    timeout = str(STATEMENT_TIMEOUT // timedelta(milliseconds=1))
    with acting_as(f"key:{key.key_id}"), pool.connection() as connection:
        connection.execute(_BEGIN, {"timeout": timeout})
        try:
            yield connection
        except psycopg.errors.QueryCanceled:
            detail = f"the database needed more than {timeout} ms, and nothing was changed; try again"
            raise unavailable(detail) from None
