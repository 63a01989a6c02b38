"""What stands while marts are built: keys, grants and views of others; and what the history said at any time before.

And what does not: everything that is made from a changed calculation.
"""

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from mart_records import TENANTS, empty_marts, push_all, some_records, whole_marts

from assets.warehouse.build import run_dbt
from assets.warehouse.project import PROJECT_DIR
from storage.database import Connection, Database
from storage.tenants import create_tenant

_HISTORY = ["run", "--select", "+drift_history", "+drift_history_versions"]
_ALL = "regnamespace::text in ('staging', 'intermediate', 'marts')"
# Names of constraints and indexes differ with each table that dbt makes; what they demand must not.
# ruff: noqa: S608 - the catalogue is asked with constants
_CATALOGUE = {
    "constraints": f"""
        select conrelid::regclass::text, contype::text, pg_get_constraintdef(oid) from pg_constraint
        where connamespace::{_ALL} and conrelid <> 0 and conrelid::regclass::text not like '%\\_\\_dbt\\_%'""",
    "indexes": f"""
        select indrelid::regclass::text, regexp_replace(pg_get_indexdef(indexrelid), ' INDEX \\S+ ', ' ')
        from pg_index inner join pg_class on pg_class.oid = indrelid where relnamespace::{_ALL}""",
    "comments": f"""
        select pg_class.oid::regclass::text, coalesce(attname, ''), description
        from pg_description inner join pg_class on pg_class.oid = objoid and classoid = 'pg_class'::regclass
        left join pg_attribute on attrelid = objoid and attnum = objsubid and attnum > 0
        where relnamespace::{_ALL} and relkind in ('r', 'v')""",
    "grants": f"""
        select pg_class.oid::regclass::text, coalesce(attname, ''), relrowsecurity, relacl::text, attacl::text
        from pg_class left join pg_attribute on attrelid = pg_class.oid and attacl is not null
        where relnamespace::{_ALL} and relkind in ('r', 'v')""",
    "policies": "select tablename, policyname, roles::text, cmd, qual from pg_policies where schemaname = 'marts'",
    "functions": f"""
        select oid::regprocedure::text, prorettype::regtype::text, prosecdef, proacl::text from pg_proc
        where pronamespace::{_ALL}""",
}


pytestmark = pytest.mark.begins(after=empty_marts)


def _catalogue(connection: Connection) -> dict[str, list[Any]]:
    return {name: sorted(map(str, connection.execute(query))) for name, query in _CATALOGUE.items()}  # type: ignore[call-overload]


def test_keys_comments_grants_policies_and_views_of_others_outlive_builds(
    database: Database, connection: Connection
) -> None:
    made = _catalogue(connection)
    for tenant in TENANTS:
        create_tenant(connection, tenant)
    sent = some_records(seed=3, count=40)
    assert len(made["policies"]) == 2 * len(whole_marts(connection))
    assert sum("FOREIGN KEY" in row for row in made["constraints"]) >= 30
    connection.execute("create view public.theirs as select sum(evaluation_count) from marts.drift_history")
    for position in (60, len(sent)):
        push_all(connection, sent[:position])
        run_dbt(["run"], database)
    assert _catalogue(connection) == made
    assert connection.execute("select * from public.theirs").fetchall() == [(80,)]
    run_dbt(["run", "--full-refresh"], database)
    assert _catalogue(connection) == made


def test_the_history_as_of_a_time_is_what_it_said_then_whatever_came_later_and_also_after_everything_is_made_anew(
    database: Database, connection: Connection
) -> None:
    remembered: dict[datetime, list[str]] = {}
    as_of = "select drift_history_id, drift_score, reliability_score, evaluation_count, drift_count from marts.{}"

    def history(source: str) -> list[str]:
        return sorted(str(row) for row in connection.execute(as_of.format(source)))  # type: ignore[arg-type]

    def remember(*arguments: str) -> None:
        run_dbt([*_HISTORY, *arguments], database)
        [(now,)] = connection.execute("select clock_timestamp()").fetchall()
        remembered[now] = history("drift_history")

    for tenant in TENANTS:
        create_tenant(connection, tenant)
    remember()
    sent = some_records(seed=4, count=60)
    for first, last in ((0, 20), (10, 90), (80, len(sent))):
        push_all(connection, sent[first:last])
        remember()
    remember("--full-refresh")
    # A mistake in raw is mended behind the batches' back, and a whole day goes.
    connection.execute("update raw.evaluations set drift_score = 0.5 where record_id = 'r1'")
    connection.execute(
        "delete from raw.evaluations where created_at::date = (select min(date) from marts.drift_history)"
    )
    remember("--full-refresh")
    assert len({str(rows) for rows in remembered.values()}) == 5
    for moment, rows in remembered.items():
        assert history(f"drift_history_as_of('{moment.isoformat()}')") == rows, moment
    assert history("drift_history_as_of('-infinity')") == []
    assert history("drift_history_as_of('infinity')") == history("drift_history")


def test_a_changed_calculation_restates_all_that_is_made_from_it_and_the_history_keeps_what_it_said(
    database: Database, connection: Connection, tmp_path: Path
) -> None:
    for tenant in TENANTS:
        create_tenant(connection, tenant)
    push_all(connection, some_records(seed=6, count=40))
    run_dbt(["run"], database)
    [(then,)] = connection.execute("select clock_timestamp()").fetchall()
    before = whole_marts(connection)
    scores = "select date, tenant_id, template_id, drift_score from marts.{} order by 1, 2, 3"
    history = connection.execute(scores.format("drift_history")).fetchall()  # type: ignore[arg-type]

    project = tmp_path / "project"
    shutil.copytree(PROJECT_DIR, project, ignore=shutil.ignore_patterns("target", "logs"))
    staged = project / "models" / "staging" / "stg_evaluations.sql"
    staged.write_text(staged.read_text().replace("    drift_score,", "    1 - drift_score as drift_score,"))
    run_dbt(["build", "--exclude-resource-type", "unit_test"], database, project_dir=project)

    changed = {mart for mart, rows in whole_marts(connection).items() if rows != before[mart]}
    assert changed >= {"evaluation_daily_stats", "drift_history", "drift_trends", "overview", "template_performance"}
    turned = connection.execute(scores.format("drift_history")).fetchall()  # type: ignore[arg-type]
    assert [row[3] for row in turned] == [row[3] if row[3] is None else pytest.approx(1 - row[3]) for row in history]
    known = connection.execute(scores.format("drift_history_as_of(%s)"), (then,)).fetchall()  # type: ignore[arg-type]
    assert known == history
