"""What senders declare, compared with what landed and what was refused: on real landings and real builds."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mart_records import evaluation, rows_of
from mart_records import push as land_batch

from assets.evaluations.manifests import (
    batch_checksum,
    declare_manifest,
    declared_since_last_build,
    list_manifests,
    overdue_since_last_build,
)
from assets.warehouse.build import run_dbt
from assets.warehouse.checks import declared_batches_arrived
from storage.clock import Clock
from storage.database import Connection, Database
from storage.errors import UsageError
from storage.tenants import create_tenant

_MODELS = ["run", "--select", "+batch_reconciliation"]
# As if everything that is known had happened two hours earlier.
_TWO_HOURS_PASS = (
    "update raw.batch_manifests set declared_at = declared_at - interval '2 hours'",
    """
    update marts.batch_reconciliation
    set declared_at = declared_at - interval '2 hours', due_at = due_at - interval '2 hours'
    """,
    """
    update intermediate.int_batch_keys
    set first_landed_at = first_landed_at - interval '2 hours', last_landed_at = last_landed_at - interval '2 hours'
    """,
    "update intermediate.int_batches set received_at = received_at - interval '2 hours'",
    "update intermediate.marks set taken_at = taken_at - interval '2 hours'",
)
_REPLAY = """
update raw.rejected_records set replayed_at = now()
where tenant_id = 'acme' and kind = 'evaluations' and verdict = 'rejected'
    and raw.batch_key_of(coalesce(record, payload)) = %s
"""


def of(batch_key: str, numbers: range, **fields: Any) -> list[dict[str, Any]]:
    return [evaluation(record_id=f"{batch_key}-{n}", batch_key=batch_key, **fields) for n in numbers]


def found(connection: Connection) -> dict[str, tuple[Any, ...]]:
    columns = ("status", "reason", "landed_count", "rejected_count", "conflict_count", "never_sent_count")
    rows = rows_of(connection, "marts.batch_reconciliation")
    return {row["batch_key"]: tuple(row[column] for column in columns) for row in rows if row["tenant_id"] == "acme"}


def two_hours_pass(connection: Connection) -> None:
    for update in _TWO_HOURS_PASS:
        connection.execute(update)  # type: ignore[arg-type]


def test_every_way_to_lose_a_record_is_told_apart_and_mending_it_completes_the_batch(
    database: Database, connection: Connection, tenant: str
) -> None:
    create_tenant(connection, "globex")
    land_batch(connection, "globex", "evaluations", of("refused", range(9)))
    sizes = {"whole": 3, "never sent": 3, "half sent": 4, "refused": 4, "contradicting": 3, "swapped": 2, "stolen": 1}
    for batch_key, expected in sizes.items():
        ids = [f"{batch_key}-{n}" for n in range(expected)]
        declare_manifest(connection, tenant, batch_key, expected=expected, checksum=batch_checksum(ids).upper())
    land_batch(connection, tenant, "evaluations", of("whole", range(2)))
    land_batch(connection, tenant, "evaluations", [*of("whole", range(1, 3)), *of("half sent", range(3))])
    good, bad = of("refused", range(1)), of("refused", range(1, 4), reliability_score=float("nan"))
    land_batch(connection, tenant, "evaluations", [*good, *bad, *bad])
    land_batch(connection, tenant, "evaluations", of("contradicting", range(1)))
    other = [record | {"batch_key": "contradicting"} for record in of("whole", range(2))]
    land_batch(connection, tenant, "evaluations", other)
    land_batch(connection, tenant, "evaluations", of("swapped", range(1, 3)))
    run_dbt(_MODELS, database)
    assert {key: row[0] for key, row in found(connection).items() if row[0] != "WAITING"} == {"whole": "COMPLETE"}

    two_hours_pass(connection)
    run_dbt(_MODELS, database)
    assert found(connection) == {
        "whole": ("COMPLETE", None, 3, 0, 0, 0),
        "never sent": ("MISSING", "never_sent", 0, 0, 0, 3),
        "half sent": ("PARTIAL", "never_sent", 3, 0, 0, 1),
        "refused": ("PARTIAL", "rejected", 1, 3, 0, 0),
        "contradicting": ("PARTIAL", "conflict", 1, 0, 2, 0),
        "swapped": ("PARTIAL", "checksum_differs", 2, 0, 0, 0),
        "stolen": ("MISSING", "never_sent", 0, 0, 0, 1),
    }
    check = declared_batches_arrived(database=database, clock=Clock())
    assert not check.passed
    assert "refused of acme: PARTIAL, 1 of 4 (rejected)" in (check.description or "")
    assert check.metadata["incomplete_batches"].value == 6

    # Mended: sent late, replayed (landed with its dead letter marked, in one transaction), declared again.
    land_batch(connection, tenant, "evaluations", [*of("never sent", range(3)), *of("half sent", range(3, 4))])
    with connection.transaction():
        land_batch_within(connection, of("refused", range(1, 4)))
        connection.execute(_REPLAY, ("refused",))
    declare_manifest(connection, tenant, "contradicting", expected=1)
    declare_manifest(connection, tenant, "swapped", expected=2)
    land_batch(connection, tenant, "evaluations", of("stolen", range(2)))
    run_dbt(_MODELS, database)
    assert found(connection) == {
        "whole": ("COMPLETE", None, 3, 0, 0, 0),
        "never sent": ("COMPLETE", "late", 3, 0, 0, 0),
        "half sent": ("COMPLETE", "late", 4, 0, 0, 0),
        "refused": ("COMPLETE", "late", 4, 0, 0, 0),
        "contradicting": ("COMPLETE", None, 1, 0, 2, 0),
        "swapped": ("COMPLETE", None, 2, 0, 0, 0),
        "stolen": ("PARTIAL", "checksum_differs", 2, 0, 0, 0),
    }
    by_increments = rows_of(connection, "marts.batch_reconciliation")
    run_dbt([*_MODELS, "--full-refresh"], database)
    assert rows_of(connection, "marts.batch_reconciliation") == by_increments


def land_batch_within(connection: Connection, records: list[dict[str, Any]]) -> None:
    """Land as a replay does: `land()` opens a savepoint inside the transaction that marks the dead letters."""
    assert land_batch(connection, "acme", "evaluations", records).accepted == len(records)


def test_declaring_the_same_again_changes_nothing_and_the_newest_counts_hold(
    connection: Connection, tenant: str
) -> None:
    first = declare_manifest(connection, tenant, "b", expected=3)
    assert declare_manifest(connection, tenant, "b", expected=3) == first
    changed = declare_manifest(connection, tenant, "b", expected=4, checksum="00000000000000FF")
    assert (changed.expected, changed.checksum) == (4, "00000000000000ff")
    assert changed.declared_at > first.declared_at
    assert [row["expected"] for row in list_manifests(connection, tenant)] == [4]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_key": ""}, "batch_key"),
        ({"batch_key": "x" * 201}, "batch_key"),
        ({"batch_key": "a\0b"}, "batch_key"),
        ({"expected": -1}, "expected"),
        ({"expected": 2**63}, "expected"),
        ({"checksum": ""}, "checksum"),
        ({"tenant_id": "nobody"}, "unknown tenant"),
    ],
)
def test_what_can_not_be_declared_is_refused_by_the_fields_name(
    connection: Connection, tenant: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        declare_manifest(connection, **{"tenant_id": tenant, "batch_key": "b", "expected": 1} | given)


def test_what_is_declared_or_overdue_since_the_last_build_is_known_without_an_arrival(
    database: Database, connection: Connection, tenant: str
) -> None:
    declare_manifest(connection, tenant, "early", expected=1)
    assert not declared_since_last_build(connection)
    assert overdue_since_last_build(connection) is None
    run_dbt(_MODELS, database)
    assert not declared_since_last_build(connection)
    declared = declare_manifest(connection, tenant, "b", expected=1)
    assert declared_since_last_build(connection)
    assert overdue_since_last_build(connection) is None
    shown = {row["batch_key"]: row.get("status") for row in list_manifests(connection, tenant)}
    assert shown == {"early": "WAITING", "b": "WAITING"}
    two_hours_pass(connection)
    overdue = overdue_since_last_build(connection)
    assert overdue is not None
    assert overdue < declared.declared_at
    run_dbt(_MODELS, database)
    assert overdue_since_last_build(connection) is None
    assert {row["status"] for row in list_manifests(connection, tenant)} == {"MISSING"}
    before = rows_of(connection, "marts.batch_reconciliation")
    run_dbt(_MODELS, database)
    assert rows_of(connection, "marts.batch_reconciliation") == before


_ONLY_READ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_ONLY_READ
@given(
    ids=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), unique=True)
)
def test_the_checksum_is_the_same_in_any_order_and_on_both_sides(connection: Connection, ids: list[str]) -> None:
    query = "select lpad(to_hex(coalesce(bit_xor(raw.record_checksum(id)), 0)), 16, '0') from unnest(%s::text[]) as id"
    assert connection.execute(query, (ids,)).fetchone() == (batch_checksum(ids),)
    assert batch_checksum(reversed(ids)) == batch_checksum(ids)
    if ids:
        assert batch_checksum(ids[1:]) != batch_checksum(ids)


_POISON = [
    b"\xff\xfe",
    b"",
    b"\0",
    b"[" * 100_000,
    b'{"batch_key": ' * 20_000,
    b"null",
    b"[]",
    b'{"batch_key": null}',
    b'{"batch_key": "\\u0000"}',
]


@pytest.mark.parametrize("document", _POISON, ids=range(len(_POISON)))
def test_what_is_made_to_break_a_parser_has_no_batch_key(connection: Connection, document: bytes) -> None:
    assert connection.execute("select raw.batch_key_of(%s)", (document,)).fetchone() == (None,)


@pytest.mark.parametrize(
    "document",
    [
        json.dumps({"batch_key": "b ä\n", "features": {"batch_key": "no"}}).encode(),
        b'{"batch_key": "b \xc3\xa4\\n", "drift_score": "high"}',
    ],
)
def test_the_batch_key_is_read_as_json_says_it(connection: Connection, document: bytes) -> None:
    assert connection.execute("select raw.batch_key_of(%s)", (document,)).fetchone() == ("b ä\n",)


@pytest.mark.parametrize(
    "document",
    [
        b'{"drift_score": NaN, "batch_key": "b1"}',
        b'{"batch_key":"b1","template":"\\ud800"}',
        b'{"batch_key" : "b1", "template": "a\\u0000b"}',
        b'{"batch_key": "b1", "template": "cut of',
    ],
)
def test_the_batch_key_of_what_is_not_quite_json_is_read_all_the_same(connection: Connection, document: bytes) -> None:
    assert connection.execute("select raw.batch_key_of(%s)", (document,)).fetchone() == ("b1",)
