"""What each role may do with each relation, and that no trick shows a reader another tenant's rows.

Every mart has a row of every tenant, and every text in it names the tenant, so that whatever a reader gets to see can
be searched for the others' names.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psycopg
import pytest
from mart_records import empty_marts, evaluation, mart_names, push
from selection_rows import arm, plant_recommendation

from assets.warehouse.build import run_dbt
from storage.database import Connection, Database, connect
from storage.leaks import find_leaks
from storage.postgres_url import PostgresUrl
from storage.tenants import create_tenant

TENANTS = ("acme", "globex", "initech")
# Who there is: what they see of marts. Logins, and what the platform itself becomes.
SEES: dict[str, set[str]] = {
    "reader_of_acme": {"acme"},
    "reader_of_both": {"acme", "globex"},
    "reader_of_none": set(),
    "stranger": set(),
    "api_reader for acme": {"acme"},
    "api_reader for nobody": set(),
    "retention": set(),
}
# What they may do there. Nobody may do anything anywhere else, or change anything.
MAY_SELECT_MARTS = set(SEES) - {"stranger", "retention"}
# What the HTTP door shows beside marts; its partitions, past the policy, are not among them.
API_READS = (
    "raw.evaluations",
    "raw.feedback",
    "access.templates",
    "ml.current_recommendations",
    "ml.extractor_posteriors",
    "ml.extractor_recommendations",
    "ml.extractor_shares",
    "ml.posterior_snapshots",
    "ml.recommendation_snapshots",
    "alerting.alerts",
    "alerting.silences",
    "alerting.notifications",
    "alerting.suppressions",
    "alerting.inhibitions",
    "alerting.notification_policies",
)
_SCHEMAS = ("raw", "access", "alerting", "ml", "staging", "intermediate", "marts", "public")
_ACTIONS = {
    "select": "select * from {0} limit 1",
    "insert": "insert into {0} default values",
    "update": "update {0} set {1} = {1}",
    "delete": "delete from {0}",
    "truncate": "truncate {0}",
}
_RELATIONS = """
select format('%%I.%%I', relnamespace::regnamespace, relname), relkind::text, quote_ident(attname)
from pg_class left join pg_attribute on attrelid = pg_class.oid and attnum = 1
where relnamespace::regnamespace::text = any(%s) and relkind in ('r', 'p', 'v', 'm', 'f', 'S')
order by 1
"""
_PLANT = """
insert into alerting.alerts (tenant_id, event_type, template, epoch, status, severity, metric, value, threshold,
    breach_count, window_start, window_end, started_at)
values (%(t)s, 'drift_high', %(t)s, 1, 'firing', 'warning', 'drift_score', 0.5, 0.3, 1, now(), now(), now());
insert into alerting.webhooks (tenant_id, url, sealed_url) values (%(t)s, 'https://' || %(t)s || '.example/…', '');
insert into raw.batch_manifests (tenant_id, batch_key, expected) values (%(t)s, %(t)s, 2);
insert into ml.drift_forecasts (tenant_id, template_id, template, measure, date, method, yhat, yhat_lower, yhat_upper,
    evaluation_count, is_anomaly, budget_weeks, fitted_from, fitted_to, fitted_days, history_hash)
select tenant_id, template_id, template, measure, '2026-05-01', 'zscore', 0.1, 0, 1, 1, false, 26, '2026-04-01',
    '2026-04-30', 30, 0
from access.templates cross join unnest(array['drift', 'reliability']) as measure where tenant_id = %(t)s;
insert into ml.forecast_backtests (tenant_id, template_id, template, measure, method, is_champion, days,
    nominal_coverage, days_judged, alarms, alarms_expected)
select tenant_id, template_id, template, 'drift', 'prophet', true, 0, 0.95, 0, 0, 0
from access.templates where tenant_id = %(t)s;
insert into ml.extractor_changes (tenant_id, template_id, template, extractor_vendor, extractor_model, objective,
    changed_on, found_on, evidence_to, statistic, threshold, mean_before, mean_after, count_before, count_after)
select tenant_id, template_id, template, tenant_id, tenant_id, 'success', '2026-05-01', '2026-05-01', '2026-05-01', 20,
    10, 0.9, 0.5, 9, 9
from access.templates where tenant_id = %(t)s;
insert into ml.policy_value (tenant_id, template_id, template, extractor_vendor, extractor_model, objective, estimator,
    logged_count, refusal)
select tenant_id, template_id, template, tenant_id, tenant_id, 'success', 'dr', 0, 'none'
from access.templates where tenant_id = %(t)s
"""


@pytest.fixture(scope="module")
def owner(server: PostgresUrl, prepared: Callable[..., Database]) -> Iterator[Connection]:
    """The owner's connection to a database of this module's own, with three tenants' marts and the login roles."""
    database = prepared(empty_marts)
    with database.connect(autocommit=True) as connection:
        for tenant in TENANTS:
            _plant(connection, tenant)
        for role in _logins():
            connection.execute(f"create role {role} login {'' if role == 'stranger' else 'in role bi_reader'}")  # type: ignore[arg-type]
            for tenant in SEES[role]:
                connection.execute("insert into access.reader_tenants values (%s, %s)", (role, tenant))
        # Policies, grants and views are the same after increments and after all is made anew: see test_standing.
        run_dbt(["run"], database)
        connection.execute("analyze")
        yield connection
        for role in _logins():
            connection.execute(f"drop owned by {role}")  # type: ignore[arg-type]
            connection.execute(f"drop role {role}")  # type: ignore[arg-type]


def _logins() -> list[str]:
    return [role for role in SEES if "reader_of" in role or role == "stranger"]


def _plant(connection: Connection, tenant: str) -> None:
    create_tenant(connection, tenant)
    record = evaluation(
        template=tenant,
        extractor_vendor=tenant,
        extractor_model=tenant,
        decision="review",
        success=True,
        propensity=1e-12,  # so that it is quarantined
        batch_key=tenant,
        features={tenant: 1},
        label=tenant,
    )
    assert push(connection, tenant, "evaluations", [record]).accepted == 1
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(_PLANT, {"t": tenant})
    plant_recommendation(connection, tenant, tenant, [arm(tenant, tenant, 1, 0)])


@contextmanager
def _as(who: str, server: PostgresUrl) -> Iterator[Connection]:
    role, _, tenant = who.partition(" for ")
    url = server.with_database("tidemark")
    if role in _logins():
        url = replace(url, user=role)
    with connect(url, autocommit=True) as connection:
        if role not in _logins():
            connection.execute(f"set role {role}")  # type: ignore[arg-type]
        if tenant in TENANTS:
            connection.execute("select set_config('tidemark.tenant_id', %s, false)", (tenant,))
        yield connection


@pytest.fixture
def everybody(server: PostgresUrl, owner: Connection) -> Iterator[dict[str, Connection]]:
    """A connection for each of those in SEES."""
    with ExitStack() as stack:
        yield {who: stack.enter_context(_as(who, server)) for who in SEES}


@pytest.fixture
def reader(server: PostgresUrl, owner: Connection) -> Iterator[Connection]:
    """The connection of reader_of_acme, who is curious about globex."""
    with _as("reader_of_acme", server) as connection:
        yield connection


def _may(connection: Connection, statement: str) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)  # type: ignore[arg-type]
    except psycopg.errors.InsufficientPrivilege:
        return False
    except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.WrongObjectType):
        return False  # a view or a sequence that nobody could write to
    return True


def test_nobody_does_anything_with_any_relation_but_read_marts_and_what_the_door_shows(
    everybody: dict[str, Connection], owner: Connection
) -> None:
    relations = owner.execute(_RELATIONS, (list(_SCHEMAS),)).fetchall()
    assert {kind for _, kind, _ in relations} >= {"r", "p", "v", "S"}
    assert any(name.startswith("raw.evaluations_2") for name, _, _ in relations)
    assert len(relations) > 70
    for who, connection in everybody.items():
        found = {
            (name, action)
            for name, _, column in relations
            for action, statement in _ACTIONS.items()
            if _may(connection, statement.format(name, column))
        }
        may = {(f"marts.{mart}", "select") for mart in mart_names()} if who in MAY_SELECT_MARTS else set()
        if who.startswith("api_reader"):
            may |= {(table, "select") for table in API_READS}
        assert found == may, who


def test_everybody_sees_the_rows_of_their_tenants_in_every_mart_and_of_no_other(
    everybody: dict[str, Connection], owner: Connection
) -> None:
    for mart in [*mart_names(), "drift_history_as_of(now())"]:
        everything = {str(row) for row in owner.execute(f"select * from marts.{mart}")}  # type: ignore[arg-type]  # noqa: S608
        assert all(any(tenant in row for row in everything) for tenant in TENANTS), mart
        for who in MAY_SELECT_MARTS:
            seen = everybody[who].execute(f"select * from marts.{mart}").fetchall()  # type: ignore[arg-type]  # noqa: S608
            expected = {row for row in everything if any(tenant in row for tenant in SEES[who])}
            assert set(map(str, seen)) == expected, (who, mart)


def test_readers_may_call_nothing_of_ours_that_has_its_owners_rights_but_the_one_that_names_their_tenants(
    owner: Connection,
) -> None:
    definers = """
    select oid::regprocedure::text, has_function_privilege('bi_reader', oid, 'execute'),
        has_function_privilege('api_reader', oid, 'execute'), has_function_privilege('stranger', oid, 'execute')
    from pg_proc where prosecdef and pronamespace::regnamespace::text = any(%s)
    """
    open_to_readers = [row for row in owner.execute(definers, (list(_SCHEMAS),)) if any(row[1:])]
    assert open_to_readers == [("access.reader_tenant_ids()", True, False, False)]


ATTEMPTS = {
    "row security off": ["set row_security = off", "select * from marts.overview"],
    "another login": ["set role reader_of_both", "select * from marts.overview"],
    "another session": ["set session authorization reader_of_both", "select * from marts.overview"],
    "the group": ["set role bi_reader", "select * from marts.overview"],
    "the api": ["set role api_reader", "select * from marts.overview"],
    "the api's setting": ["set tidemark.tenant_id = 'globex'", "select * from marts.overview"],
    "the mapping": ["select * from access.reader_tenants"],
    "the mapping written": ["insert into access.reader_tenants values ('reader_of_acme', 'globex')"],
    "an eager function": [
        """create function pg_temp.tell(text) returns boolean cost 0.0000001 language plpgsql as
        $$ begin raise notice '%', $1; return true; end $$""",
        "select * from marts.overview where pg_temp.tell(tenant_id)",
        "select * from marts.drift_history where pg_temp.tell(template) and tenant_id <> 'acme'",
        "select * from marts.drift_history_as_of(now()) where pg_temp.tell(template)",
    ],
    "an operator": [
        """create function pg_temp.same(text, text) returns boolean cost 0.0000001 language plpgsql as
        $$ begin raise notice '%', $1; return true; end $$""",
        "create operator pg_temp.=== (leftarg = text, rightarg = text, function = pg_temp.same)",
        "select * from marts.overview where tenant_id operator(pg_temp.===) 'x'",
    ],
    "a leakproof function": [
        """create function pg_temp.sure(text) returns boolean leakproof language plpgsql as
        $$ begin raise notice '%', $1; return true; end $$""",
        "select * from marts.overview where pg_temp.sure(tenant_id)",
    ],
    "a cast": ["select * from marts.drift_history where template::integer > 0 and tenant_id <> 'acme'"],
    "a division": ["select * from marts.overview where 1 / (length(tenant_id) - length('globex')) > 0"],
    "explain": ["explain (analyze, verbose, buffers) select * from marts.drift_history order by template"],
    "statistics": [
        "select * from pg_stats where schemaname = 'marts'",
        "select * from pg_stats_ext_exprs",
        "select * from pg_statistic",
    ],
    "copy": ["copy marts.overview to stdout", "copy (select * from marts.drift_history) to stdout"],
    "a view": [
        "create temporary view everything as select * from marts.drift_history",
        "select * from everything",
    ],
    "a table with a foreign key": ["create table public.probe (tenant_id text references marts.dim_tenants)"],
    "a table in marts": ["create table marts.probe (tenant_id text references marts.dim_tenants)"],
    "a temporary one": ["create temporary table probe (tenant_id text references marts.dim_tenants)"],
    "a lock": ["select * from marts.overview for update", "lock table marts.overview"],
    "a trigger": ["create trigger watch after insert on marts.overview execute function access.refuse_change()"],
    "a policy": ["create policy mine on marts.overview using (true)"],
    "a merge": ["merge into marts.overview as o using marts.overview as p on true when matched then delete"],
    "other sessions": ["select query from pg_stat_activity"],
    "files": ["select pg_read_file('postgresql.conf')", "copy marts.overview from program 'echo globex'"],
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_no_trick_shows_a_reader_another_tenants_rows(reader: Connection, owner: Connection, attempt: str) -> None:
    said: list[str] = []
    reader.add_notice_handler(lambda notice: said.append(f"{notice.message_primary} {notice.message_detail}"))
    for statement in ATTEMPTS[attempt]:
        try:
            said += _everything_from(reader, statement)
        except psycopg.Error as error:
            # Its own statement is quoted in an error, and is no secret.
            said.append(str(error).replace(statement, "").split("LINE 1:")[0])
    assert not [line for line in said if "globex" in line or "initech" in line]


def _everything_from(reader: Connection, statement: str) -> list[str]:
    with reader.cursor() as cursor:
        if statement.startswith("copy"):
            with cursor.copy(statement) as copy:  # type: ignore[arg-type]
                return [bytes(line).decode() for line in copy]
        cursor.execute(statement)  # type: ignore[arg-type]
        return [str(row) for row in cursor] if cursor.description else []


def test_a_reader_with_a_schema_of_their_own_cannot_ask_by_foreign_keys_which_rows_there_are(
    reader: Connection, owner: Connection
) -> None:
    owner.execute("create schema workshop authorization reader_of_acme")
    try:
        for mart in mart_names():
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(f"create table workshop.probe (key text references marts.{mart})")  # type: ignore[arg-type]
    finally:
        owner.execute("drop schema workshop cascade")


def test_a_view_of_one_reader_shows_another_only_his_own_tenants(
    everybody: dict[str, Connection], owner: Connection
) -> None:
    owner.execute("create schema workshop authorization reader_of_both")
    try:
        everybody["reader_of_both"].execute("create view workshop.all_of_it as select tenant_id from marts.overview")
        everybody["reader_of_both"].execute("grant usage on schema workshop to bi_reader")
        everybody["reader_of_both"].execute("grant select on workshop.all_of_it to bi_reader")
        assert everybody["reader_of_acme"].execute("select * from workshop.all_of_it").fetchall() == [("acme",)]
    finally:
        owner.execute("drop schema workshop cascade")


def test_a_reader_finds_every_marts_primary_key(reader: Connection) -> None:
    keyed = reader.execute(
        """
        select table_name from information_schema.table_constraints
        where table_schema = 'marts' and constraint_type = 'PRIMARY KEY'
        """
    )
    assert {row[0] for row in keyed} == set(mart_names())


def test_the_policy_asks_for_the_tenants_once_a_query(reader: Connection) -> None:
    plan = reader.execute("explain select * from marts.drift_history").fetchall()
    assert any("InitPlan" in line for (line,) in plan)


def test_staging_views_see_with_their_readers_rights(owner: Connection) -> None:
    options = owner.execute(
        "select relname, reloptions from pg_class where relnamespace = 'staging'::regnamespace and relkind = 'v'"
    ).fetchall()
    assert options
    assert all(option == ["security_invoker=true"] for _, option in options), options


PLANTED = {
    "marts.shortcut": ("create view marts.shortcut as select * from marts.overview", "eyes"),
    "marts.kept": ("create materialized view marts.kept as select * from marts.overview", "materialized view"),
    "marts.copied": ("create table marts.copied as select * from marts.overview", "is off"),
    "public.copied": ("create table public.copied as select * from raw.evaluations", "is off"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_found_once_readers_may_read_it(owner: Connection, name: str) -> None:
    make, why = PLANTED[name]
    with owner.transaction(force_rollback=True):
        owner.execute(make)  # type: ignore[call-overload]
        assert find_leaks(owner) == []
        owner.execute(f"grant select on {name} to bi_reader")  # type: ignore[arg-type]
        [leak] = find_leaks(owner)
        assert (leak.name, why in leak.why) == (name, True)
        assert {"bi_reader", "reader_of_acme"} <= set(leak.readers)


def test_other_leaks_are_found_too_and_what_looks_like_one_is_none(owner: Connection) -> None:
    def found(*statements: str) -> list[str]:
        with owner.transaction(force_rollback=True):
            for statement in statements:
                owner.execute(statement)  # type: ignore[call-overload]
            return [leak.name for leak in find_leaks(owner)]

    assert found() == []
    function = "create function marts.peek() returns bigint language sql as 'select count(*) from marts.overview'"
    assert found(function) == []
    assert found(f"{function} security definer") == ["marts.peek()"]
    assert found("alter table marts.overview disable row level security") == ["marts.overview"]
    assert found("create policy p on marts.overview for select to bi_reader using (true)") == ["marts.overview"]
    assert found("create policy p on marts.overview to public using (tenant_id > '')") == ["marts.overview"]
    assert found("create policy p on marts.overview as restrictive to bi_reader using (false)") == []
    # Granted by mistake, it shows nothing; without row-level security it is a leak, granted or not.
    assert found("grant usage on schema raw to reader_of_acme", "grant select on raw.feedback to reader_of_acme") == []
    assert found("alter table raw.feedback disable row level security") == ["raw.feedback"]
    assert found("create table alerting.new (tenant_id text)") == ["alerting.new"]
    assert found("create policy p on alerting.webhook_secrets to stranger using (true)") == ["alerting.webhook_secrets"]
    assert found("create policy p on raw.evaluations to api_reader using (tenant_id > '')") == ["raw.evaluations"]
    assert found("alter table intermediate.int_batches disable row level security") == ["intermediate.int_batches"]
    assert found("grant select (tenant_id) on raw.feedback to public") == []
    assert found("alter role reader_of_acme bypassrls") == ["role reader_of_acme"]
    invoker = "create view marts.fine with (security_invoker) as select * from marts.overview"
    assert found(invoker, "grant select on marts.fine to bi_reader") == []
