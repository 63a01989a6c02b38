"""deploy/postgres: the login that reader.sql makes, and the watchdog that ends what it leaves running."""

import psycopg
import pytest

from storage.database import Connection, connect
from storage.locks import AdvisoryLock
from storage.postgres_url import PostgresUrl


def test_a_login_made_twice_over_sees_its_tenant_only_in_every_mart(reader: Connection, marts: dict) -> None:
    filled = set()
    for mart in marts:
        seen = {row[0] for row in reader.execute(f"select tenant_id from marts.{mart}")}  # type: ignore[arg-type]  # noqa: S608
        assert seen <= {"acme"}, mart
        filled |= {mart} if seen else set()
    assert {"overview", "drift_history", "drift_trends", "extractor_comparison", "review_queue"} <= filled


def test_a_login_reads_in_utc_writes_nothing_and_has_limits(reader: Connection, warehouse: PostgresUrl) -> None:
    settings = [reader.execute(f"show {name}").fetchall()[0][0] for name in ("timezone", "statement_timeout")]  # type: ignore[arg-type]
    assert settings == ["UTC", "30s"]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        reader.execute("create temporary table scratch ()")
    reader.execute("set default_transaction_read_only = off")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("delete from marts.overview")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("set temp_file_limit = -1")
    with connect(warehouse) as owner:
        limits = "select rolconnlimit, rolsuper, rolcreaterole from pg_roles where rolname = 'acme_bi'"
        assert owner.execute(limits).fetchall() == [(3, False, False)]


def test_a_role_that_may_do_more_does_not_become_a_reader(psql, warehouse: PostgresUrl) -> None:
    with connect(warehouse, autocommit=True) as owner:
        owner.execute("create role acme_operator login in role retention")
        try:
            for role in ("postgres", "acme_operator"):
                refused = psql("reader.sql", "secret", role=role, tenant="acme")
                assert refused.returncode != 0
                assert f"role {role} may do more than read marts" in refused.stderr
            mapped = owner.execute("select from access.reader_tenants where role_name in ('postgres', 'acme_operator')")
            assert mapped.fetchall() == []
        finally:
            owner.execute("drop role acme_operator")


def test_a_call_that_lacks_something_says_what_and_leaves_no_role(psql, warehouse: PostgresUrl) -> None:
    for problem, password, variables in (
        ("a reader needs a role, a tenant and a password", None, {"role": "nobody_bi", "tenant": "acme"}),
        ("a reader needs a role, a tenant and a password", "secret", {"role": "nobody_bi"}),
        ("there is no tenant initech", "secret", {"role": "nobody_bi", "tenant": "initech"}),
    ):
        refused = psql("reader.sql", password, **variables)
        assert refused.returncode != 0
        assert problem in refused.stderr
    with connect(warehouse) as owner:
        assert owner.execute("select from pg_roles where rolname = 'nobody_bi'").fetchall() == []


def test_the_watchdog_ends_a_readers_open_transaction_and_nobody_elses(
    psql, reader: Connection, warehouse: PostgresUrl
) -> None:
    with connect(warehouse) as platform:
        platform.execute("select 1")
        reader.execute("set idle_in_transaction_session_timeout = 0")
        reader.execute("begin")
        reader.execute("select count(*) from marts.overview")

        assert psql("watchdog.sql", seconds="3600").stdout == ""
        ended = psql("watchdog.sql", seconds="0").stdout.splitlines()

        assert [line.split("|")[1] for line in ended] == ["acme_bi"]
        with pytest.raises(psycopg.OperationalError):
            reader.execute("select 1")
        assert platform.execute("select 2").fetchall() == [(2,)]


def test_the_watchdog_ends_at_once_a_reader_that_holds_a_lock_which_builds_take(
    psql, reader: Connection, warehouse: PostgresUrl
) -> None:
    reader.execute("select pg_advisory_lock(%s)", (AdvisoryLock.WAREHOUSE_BUILD.value,))
    ended = psql("watchdog.sql", seconds="3600").stdout.splitlines()
    assert [line.split("|")[1] for line in ended] == ["acme_bi"]
    with connect(warehouse, autocommit=True) as platform:
        platform.execute("set lock_timeout = '10s'")
        platform.execute("select pg_advisory_lock(%s)", (AdvisoryLock.WAREHOUSE_BUILD.value,))
