"""What a BI tool's login may see: its own tenants' rows of the marts, with keys; nothing else."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from assets.evaluations.landing import land
from assets.evaluations.verdicts import Line
from assets.warehouse.build import run_dbt
from storage.database import Connection, Database, connect
from storage.postgres_url import PostgresUrl
from storage.tenants import create_tenant

# One worker builds for all of them.
pytestmark = pytest.mark.xdist_group("warehouse-readers")

READERS: dict[str, set[str]] = {
    "reader_of_acme": {"acme"},
    "reader_of_both": {"acme", "globex"},
    "reader_of_none": set(),
}
TENANTS = ("acme", "globex", "initech")
_EVALUATION = b"""{
    "template": "invoice", "extractor_vendor": "v", "extractor_model": "m", "drift_score": 0.1, "success": true,
    "created_at": "2026-05-01T08:00:00Z"
}"""
_ALERT = """
insert into alerting.alerts (tenant_id, event_type, template, epoch, status, severity, metric, value, threshold,
    breach_count, window_start, window_end, started_at)
values (%s, 'drift_high', 'invoice', 1, 'firing', 'warning', 'drift_score', 0.5, 0.3, 1, now(), now(), now())
"""


@pytest.fixture(scope="module")
def owner(server: PostgresUrl) -> Iterator[Connection]:
    """The owner's connection to a database of this module's own, with three tenants' marts and the login roles."""
    url = server.with_database("tidemark")
    with connect(server.with_database("postgres"), autocommit=True) as admin:
        admin.execute("drop database if exists tidemark with (force)")
        admin.execute("create database tidemark template tidemark_template strategy file_copy")
    with connect(url, autocommit=True) as connection:
        for tenant in TENANTS:
            create_tenant(connection, tenant)
            receipt = land(
                connection, tenant, "evaluations", [Line(1, _EVALUATION)], door="test", now=datetime.now(UTC)
            )
            assert receipt.accepted == 1
            connection.execute(_ALERT, (tenant,))
        for role, tenants in READERS.items():
            connection.execute(f"create role {role} login in role bi_reader")  # type: ignore[arg-type]
            for tenant in tenants:
                connection.execute("insert into access.reader_tenants values (%s, %s)", (role, tenant))
        # Twice: the tables of the second build are new ones.
        for _ in range(2):
            run_dbt(["run"], Database(platform=url, dagster=server.with_database("dagster")))
        yield connection
        for role in READERS:
            connection.execute(f"drop role {role}")  # type: ignore[arg-type]


@pytest.fixture
def readers(server: PostgresUrl, owner: Connection) -> Iterator[dict[str, Connection]]:
    """A connection a login role."""
    url = server.with_database("tidemark")
    with ExitStack() as stack:
        yield {role: stack.enter_context(connect(replace(url, user=role), autocommit=True)) for role in READERS}


def test_a_login_sees_the_rows_of_its_tenants_in_every_mart_and_of_no_other(
    readers: dict[str, Connection], marts: tuple[str, ...]
) -> None:
    for role, reader in readers.items():
        for mart in marts:
            seen = reader.execute(f"select distinct tenant_id from marts.{mart}").fetchall()  # type: ignore[arg-type]  # noqa: S608
            assert {row[0] for row in seen} == READERS[role], (role, mart)


def test_a_login_cannot_talk_itself_into_another_tenant(readers: dict[str, Connection]) -> None:
    reader = readers["reader_of_acme"]
    for attempt in ("set row_security = off", "set role reader_of_both", "set session authorization reader_of_both"):
        seen: set[str] = set()
        try:
            reader.execute(attempt)  # type: ignore[call-overload]
            seen = {row[0] for row in reader.execute("select tenant_id from marts.overview")}
        except psycopg.errors.InsufficientPrivilege:
            pass
        assert seen <= {"acme"}, attempt
        reader.execute("reset row_security")


def test_a_login_reads_nothing_but_marts_and_writes_nothing(
    readers: dict[str, Connection], owner: Connection, marts: tuple[str, ...]
) -> None:
    relations = owner.execute(
        """
        select format('%I.%I', schemaname, name) from (
            select schemaname, tablename as name from pg_tables union select schemaname, viewname from pg_views
        ) as relations
        where schemaname in ('raw', 'access', 'alerting', 'ml', 'staging', 'intermediate')
        """
    ).fetchall()
    assert len(relations) > 30
    reader = readers["reader_of_both"]
    for (relation,) in relations:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"select 1 from {relation}")  # type: ignore[arg-type]  # noqa: S608
    for mart in marts:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"delete from marts.{mart}")  # type: ignore[arg-type]  # noqa: S608


def test_a_login_finds_every_marts_primary_key(readers: dict[str, Connection], marts: tuple[str, ...]) -> None:
    keyed = readers["reader_of_acme"].execute(
        """
        select table_name from information_schema.table_constraints
        where table_schema = 'marts' and constraint_type = 'PRIMARY KEY'
        """
    )
    assert {row[0] for row in keyed} == set(marts)


def test_the_policy_asks_for_the_tenants_once_a_query(readers: dict[str, Connection]) -> None:
    plan = readers["reader_of_acme"].execute("explain select * from marts.drift_history").fetchall()
    assert any("InitPlan" in line for (line,) in plan)


def test_staging_views_see_with_their_readers_rights(owner: Connection) -> None:
    options = owner.execute(
        "select relname, reloptions from pg_class where relnamespace = 'staging'::regnamespace and relkind = 'v'"
    ).fetchall()
    assert options
    assert all(option == ["security_invoker=true"] for _, option in options), options
