"""Roles: what each may touch, that the platform works through them, and that it needs no superuser.

The matrix names every table of the floor plan, so a new one has to say whose it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta

import httpx
import psycopg
import pytest
from door import serving
from mart_records import evaluation, push
from one_day import begin_a_day_if_it_is_near
from process_logins import process_logins

from assets.warehouse.build import run_dbt
from assets.warehouse.reconciliation import reconcile
from assets.warehouse.retention import retain
from storage.api_keys import create_key
from storage.audit_seals import seal_ended_days, verify_log
from storage.clock import Clock
from storage.database import Connection, Database, connect, create_if_missing
from storage.errors import DatabaseUnavailableError, MigrationError
from storage.leaks import find_leaks
from storage.migrate import migrate
from storage.postgres_url import PostgresUrl
from storage.tenants import create_tenant

SCHEMAS = ("raw", "access", "alerting", "ml")
_MATRIX = """
select format('%%s.%%s', relnamespace::regnamespace, relname), string_agg(left(privilege, 1), '' order by privilege)
from pg_class cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger'])
    as privilege
where
    relnamespace::regnamespace::text = any(%(schemas)s) and relkind in ('r', 'p')
    and case
        when privilege in ('delete', 'truncate', 'trigger') then has_table_privilege(%(role)s, oid, privilege)
        else has_any_column_privilege(%(role)s, oid, privilege)
    end
group by 1
"""
LANDING = {
    "raw.evaluation_keys": "is",
    "raw.evaluations": "is",
    "raw.feedback": "is",
    "raw.ingest_batches": "i",
    "raw.rejected_records": "isu",
    "raw.batch_manifests": "isu",
    "raw.dropped_files": "isu",
    "raw.dropped_months": "s",
    "access.tenants": "s",
    "access.templates": "is",
}
MAY: dict[str, dict[str, str]] = {
    "tidemark_ingest": LANDING,
    "tidemark_api": LANDING
    | {
        "raw.ingest_batches": "is",
        "access.api_keys": "su",
        "access.idempotent_answers": "disu",
        "access.tenant_limits": "s",
        "access.tenant_usage_counters": "s",
        "alerting.alerts": "isu",
        "alerting.delivery_attempts": "s",
        "alerting.events": "is",
        "alerting.heartbeats": "s",
        "alerting.inhibitions": "dis",
        "alerting.notification_policies": "disu",
        "alerting.notifications": "isu",
        "alerting.positions": "isu",
        "alerting.silences": "disu",
        "alerting.suppressions": "is",
        "alerting.thresholds": "s",
        "alerting.webhook_deliveries": "isu",
        "alerting.webhook_secrets": "isu",
        "alerting.webhooks": "isu",
    },
    "tidemark_dbt": dict.fromkeys(
        (
            "raw.evaluations",
            "raw.evaluation_keys",
            "raw.feedback",
            "raw.ingest_batches",
            "raw.batch_manifests",
            "raw.rejected_records",
            "raw.dropped_months",
            "access.tenants",
            "access.templates",
            "alerting.alerts",
            "alerting.webhooks",
            "alerting.webhook_deliveries",
            "ml.drift_forecasts",
            "ml.forecast_backtests",
            "ml.current_recommendations",
            "ml.extractor_changes",
            "ml.extractor_posteriors",
            "ml.policy_value",
            "ml.posterior_snapshots",
            "ml.recommendation_snapshots",
            "ml.extractor_shares",
        ),
        "s",
    ),
    "retention": {},
}
FORBIDDEN = (
    "select sealed from alerting.webhook_secrets",
    "select * from access.audit_log",
    "select * from access.audit_seals",
    "insert into access.audit_log select * from access.audit_log",
    "delete from access.audit_log",
    "select access.seal_audit_day(null)",
    "select access.drop_released_audit_days()",
    "select raw.drop_evaluations_month('2020-01-01', '2026-01-01')",
    "update access.api_keys set scopes = '{admin}'",
    "insert into access.api_keys values ('k', 'acme', '', '{}')",
    "select payload from raw.rejected_records",
    "select features from raw.evaluations",
    "delete from raw.feedback",
    "insert into access.tenants values ('x', 'x')",
    "insert into access.reader_tenants values ('x', 'acme')",
    "alter table raw.evaluations disable row level security",
    "create table raw.mine ()",
    "create table access.mine ()",
    "set role audit_owner",
)
INGEST_ALONE = ("select secret_sha256 from access.api_keys", "select * from alerting.webhooks", "set role api_reader")


@pytest.fixture
def logins(database: Database) -> Iterator[dict[str, PostgresUrl]]:
    """A login for each process, made by the file that users run."""
    with process_logins(database, list(MAY)) as addresses:
        yield addresses


def test_each_role_may_do_what_its_process_does_and_nothing_else(connection: Connection) -> None:
    for role, expected in MAY.items():
        found = dict(connection.execute(_MATRIX, {"schemas": list(SCHEMAS), "role": role}).fetchall())
        assert found == expected, role
    assert find_leaks(connection) == []


def test_landing_works_as_a_login_that_can_read_nothing_back(
    logins: dict[str, PostgresUrl], connection: Connection, tenant: str
) -> None:
    create_tenant(connection, "globex")
    push(connection, "globex", "evaluations", [evaluation(record_id="theirs")])
    with connect(logins["tidemark_ingest"], autocommit=True) as ingest:
        # A month that nobody has made yet, feedback at once, a template never seen, the same again, another content.
        records = [evaluation(record_id=f"r{n}", created_at="2019-03-01T00:00:00Z", success=True) for n in range(3)]
        assert push(ingest, tenant, "evaluations", records).accepted == 3
        again = push(ingest, tenant, "evaluations", [records[0], records[1] | {"template": "other"}, {"nonsense": 1}])
        assert (again.duplicates, again.conflicts, again.rejected) == (1, 1, 1)
        assert push(ingest, tenant, "evaluations", [{"nonsense": 1}]).rejected == 1
        assert push(ingest, tenant, "feedback", [{"record_id": "r0", "success": False}]).accepted == 1
        _is_refused(ingest, *FORBIDDEN, *INGEST_ALONE)
    [month] = connection.execute(
        "select relrowsecurity, relowner::regrole::text from pg_class where relname = 'evaluations_201903'"
    ).fetchall()
    assert month == (True, connection.info.user)
    assert migrate(logins["tidemark_ingest"]) == migrate(logins["tidemark_api"]), "a start of theirs changes nothing"


def test_the_door_serves_as_a_login_that_can_neither_make_keys_nor_open_secrets(
    logins: dict[str, PostgresUrl], connection: Connection, database: Database, tenant: str
) -> None:
    _, text = create_key(connection, tenant, ["read"], now=Clock().now())
    with serving(replace(database, platform=logins["tidemark_api"])) as client:
        assert client.get("/health").json()["checks"]["schema"] == "ok"
        # The marts are not built: it came past the key and as far as them.
        answer = client.get("/v1/dashboard/overview", headers={"X-API-Key": text})
        assert (answer.status_code, "not built" in answer.text) == (httpx.codes.SERVICE_UNAVAILABLE, True)
    with connect(logins["tidemark_api"], autocommit=True) as api:
        assert push(api, tenant, "evaluations", [evaluation()]).accepted == 1
        api.execute("select access.record_audit('acme', 'key:k', 'webhook.create', 'w', '{}')")
        _is_refused(api, *FORBIDDEN)
        api.execute("set role api_reader")
        assert not api.execute("select rolbypassrls from pg_roles where rolname = current_user").fetchall()[0][0]


def test_dbt_builds_as_a_login_that_can_read_no_secret_and_change_nothing_that_was_landed(
    logins: dict[str, PostgresUrl], database: Database, connection: Connection, tenant: str
) -> None:
    push(connection, tenant, "evaluations", [evaluation()])
    run_dbt(["run"], replace(database, platform=logins["tidemark_dbt"]))
    assert connection.execute("select total_evaluations from marts.overview").fetchall() == [(1,)]
    with connect(logins["tidemark_dbt"], autocommit=True) as dbt:
        _is_refused(dbt, *FORBIDDEN[:10], *FORBIDDEN[12:], "select secret_sha256 from access.api_keys")


def _is_refused(connection: Connection, *statements: str) -> None:
    for statement in statements:
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(statement)  # type: ignore[call-overload]
        except psycopg.errors.InsufficientPrivilege:
            continue
        pytest.fail(f"{connection.info.user} may: {statement}")


@contextmanager
def _plain_owner(server: PostgresUrl) -> Iterator[PostgresUrl]:
    """An empty database of a login that is no superuser, on a server where the roles are there already."""
    with connect(server.with_database("postgres"), autocommit=True) as admin:
        admin.execute("drop database if exists tidemark with (force)")
        admin.execute("create role plain_owner login createrole")
        admin.execute("create database tidemark owner plain_owner")
        roles = "bi_reader, api_reader, retention, audit_owner, tidemark_ingest, tidemark_api, tidemark_dbt"
        admin.execute(f"grant {roles} to plain_owner with admin true, inherit false, set false")  # type: ignore[arg-type]
        with connect(server.with_database("tidemark")) as extending:
            extending.execute("create extension vector")
        try:
            yield replace(server.with_database("tidemark"), user="plain_owner")
        finally:
            admin.execute("drop database if exists tidemark with (force)")
            admin.execute("drop owned by plain_owner cascade")
            admin.execute("drop role plain_owner")


def test_an_owner_that_lacks_a_database_or_a_right_is_told_what_a_superuser_has_to_do(server: PostgresUrl) -> None:
    with _plain_owner(server) as url:
        with pytest.raises(DatabaseUnavailableError, match='create database "dagster_of_it" owner "plain_owner"'):
            create_if_missing(url.with_database("dagster_of_it"))
        with connect(server.with_database("tidemark"), autocommit=True) as admin:
            admin.execute("drop extension vector")
        with pytest.raises(MigrationError, match="a superuser must have run `create extension vector`"):
            migrate(url)


def test_an_owner_that_is_no_superuser_migrates_and_cannot_touch_the_audit_log(server: PostgresUrl) -> None:
    begin_a_day_if_it_is_near(timedelta(minutes=1))
    with _plain_owner(server) as url:
        migrate(url)
        migrate(url)
        with connect(url, autocommit=True) as owner:
            create_tenant(owner, "acme")
            record = evaluation(created_at="2026-01-15T00:00:00Z")
            assert push(owner, "acme", "evaluations", [record]).accepted == 1
            assert owner.execute("select action, actor <> '' from access.audit_log").fetchall() == [
                ("tenant.create", True)
            ]
            today = owner.execute("select to_char(now() at time zone 'UTC', 'YYYYMMDD')").fetchall()[0][0]
            _is_refused(
                owner,
                "update access.audit_log set actor = 'nobody'",
                "delete from access.audit_log",
                "truncate access.audit_log",
                f"truncate access.audit_log_{today}",
                f"drop table access.audit_log_{today}",
                f"alter table access.audit_log detach partition access.audit_log_{today}",
                "alter table access.audit_log disable trigger all",
                "alter table access.audit_log rename to gone",
                "drop table access.audit_seals",
                "drop schema access cascade",
                "create or replace function access.refuse_change() returns trigger language sql return null",
                "insert into access.audit_log (at, actor, action, subject, detail) values (now(), '', '', '', '{}')",
                "insert into access.audit_seals select * from access.audit_seals",
                "set session_replication_role = replica",
                "set role audit_owner",
            )
            # All it needs else it may: dbt builds by becoming another role, and so does retention drop.
            deployment = Database(platform=url, dagster=url.with_database("dagster"))
            run_dbt(["run"], deployment)
            assert reconcile(owner).holds
            assert find_leaks(owner) == []
            assert retain(owner, 31, date(2026, 6, 1)).evaluations == 1
            assert owner.execute("select count(*) from marts.overview").fetchall() == [(1,)]
            seal_ended_days(owner, 90)
            assert verify_log(owner).tampering == []
            # Its own tables are its own, in that schema too.
            owner.execute("create table access.notes (tenant_id text); alter table access.notes add column note text")
            owner.execute("drop table access.notes")
            # Who made the role could join it again, until a superuser ends that.
            with connect(server.with_database("tidemark")) as admin:
                admin.execute("revoke audit_owner from plain_owner cascade")
            _is_refused(owner, "grant audit_owner to plain_owner")
