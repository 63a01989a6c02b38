"""Connections for statements that go over the whole fleet.

Belongs here: how the server is to go about those. Does not belong here: the statements.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from storage.database import Connection, Database

# With the usual 4 MB the histories of 10,000 templates go to disk in 128 pieces and come back, which took three times
# the server's CPU; compiling the statement cost more than it saved.
_WIDE = "set local work_mem = '256MB'; set local jit = off"


@contextmanager
def connect_wide(database: Database) -> Iterator[Connection]:
    """A connection in one transaction: committed at the end of the block, rolled back on an exception.

    Raises:
        DatabaseUnavailableError: the server does not answer.
    """
    with database.connect() as connection:
        connection.execute(_WIDE)
        yield connection
