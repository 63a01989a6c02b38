"""Fixtures of the warehouse's tests: records landed through the one door, marts read back and fingerprinted."""

from collections.abc import Callable, Iterable
from typing import Any

import mart_records
import pytest

from storage.database import Connection

Push = Callable[..., None]
Rows = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def push(connection: Connection) -> Push:
    """`push(tenant, kind, records)`: lands the records as one batch, all of which must be good."""

    def push(tenant: str, kind: Any, records: Iterable[dict[str, Any]]) -> None:
        assert not mart_records.push(connection, tenant, kind, records).problems

    return push


@pytest.fixture
def rows(connection: Connection) -> Rows:
    """`rows(relation)`: its rows as dictionaries, in the order of the primary key."""
    return lambda relation: mart_records.rows_of(connection, relation)


@pytest.fixture
def marts() -> tuple[str, ...]:
    """The names of all marts."""
    return mart_records.mart_names()


@pytest.fixture
def checksums(connection: Connection) -> Callable[[], dict[str, list[str]]]:
    """`checksums()`: what every mart says, over all its rows and columns, to be compared."""
    return lambda: mart_records.whole_marts(connection)


@pytest.fixture
def an_evaluation() -> Callable[..., dict[str, Any]]:
    """`an_evaluation(**fields)`: a good record."""
    return mart_records.evaluation
