"""Invariant: however the same records come and whenever marts are built, the marts are the same."""

import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from mart_oracle import check_marts
from mart_records import (
    TENANTS,
    Record,
    Sent,
    content_of_marts,
    declare_batches,
    empty_marts,
    publish_shares,
    push_all,
    rows_of,
    some_records,
    whole_marts,
)

from assets.warehouse.build import run_dbt
from storage.database import Connection, Database
from storage.tenants import create_tenant

_SEED = 20260401


class Step(NamedTuple):
    """One push: how many records that are new, what is wrong with it, and whether marts are built after it."""

    records: int
    also: str
    then_build: bool


steps = st.lists(
    st.builds(Step, st.integers(1, 150), st.sampled_from(("", "repeats", "contradictions", "nonsense")), st.booleans()),
    min_size=2,
    max_size=8,
).filter(lambda drawn: 1 <= sum(step.then_build for step in drawn) <= 3)


def two_tenants(database: Database) -> None:
    """Two tenants, what they have declared, and what was recommended to them."""
    with database.connect(autocommit=True) as connection:
        for tenant in TENANTS:
            create_tenant(connection, tenant)
        declare_batches(connection)
        publish_shares(connection)


@pytest.fixture(scope="module")
def begin(prepared: Callable[..., Database]) -> Callable[[bool], Database]:
    """`begin(with_marts)`: no records, two tenants, and marts that have been built already or never."""
    return lambda with_marts: prepared(*[empty_marts] * with_marts, two_tenants)


@pytest.fixture(scope="module")
def expected(begin: Callable[[bool], Database]) -> dict[str, list[str]]:
    """What the marts say after one push of everything and one build."""
    database = begin(False)
    with database.connect(autocommit=True) as connection:
        push_all(connection, some_records(_SEED))
        run_dbt(["run"], database)
        check_marts(partial(rows_of, connection), some_records(_SEED))
        return content_of_marts(connection)


@settings(
    max_examples=3,
    derandomize=True,
    deadline=None,
    database=None,
    # To shrink an example takes as many builds as to find it; the steps say enough.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(steps=steps, order=st.integers(0, 2**32), with_marts=st.booleans())
def test_any_order_split_repetition_and_lateness_of_the_same_records_gives_the_same_marts_as_one_push_and_one_build(
    begin: Callable[[bool], Database],
    expected: dict[str, list[str]],
    steps: list[Step],
    order: int,
    with_marts: bool,
) -> None:
    database = begin(with_marts)
    with database.connect(autocommit=True) as connection:
        _live(database, connection, steps, random.Random(order))  # noqa: S311
        assert content_of_marts(connection) == expected
        check_marts(partial(rows_of, connection), some_records(_SEED))
        # Nothing new, then everything anew: not a column changes, and what was known when stays as it was.
        by_increments = whole_marts(connection)
        run_dbt(["run"], database)
        assert whole_marts(connection) == by_increments
        run_dbt(["build", "--full-refresh", "--exclude-resource-type", "unit_test"], database)
        assert whole_marts(connection) == by_increments


def _live(database: Database, connection: Connection, steps: list[Step], chance: random.Random) -> None:
    """Land all records by these steps, in an order of chance, and what is left with the last of them."""
    to_come, landed = some_records(_SEED), list[Sent]()
    chance.shuffle(to_come)
    for step in [*steps, Step(len(to_come), "repeats", then_build=True)]:
        new, to_come = to_come[: step.records], to_come[step.records :]
        push_all(connection, _with(step.also, new, landed, chance))
        landed += new
        if step.then_build:
            event(f"built with {len(to_come) * 10 // len(landed + to_come)} tenths to come")
            run_dbt(["run"], database)


def _with(also: str, new: list[Sent], landed: list[Sent], chance: random.Random) -> list[Sent]:
    some = chance.sample(landed, min(20, len(landed)))
    if also == "repeats":
        return chance.sample(mixed := [*new, *some, *new[:5]], len(mixed))
    if also == "contradictions":
        return [*new, *(Sent(tenant, kind, _contradicted(record)) for tenant, kind, record in [*some, *new[:5]])]
    if also == "nonsense":
        return [*(Sent(tenant, kind, record | {"success": "yes"}) for tenant, kind, record in some), *new]
    return new


def _contradicted(record: Record) -> Record:
    """The same name, and something else under it."""
    if "feedback_key" in record:
        return record | {"created_at": "2026-05-31T00:00:00Z"}
    return record | {"drift_score": 0.123, "decision": "reject", "success": False}
