"""Builds that die, fail, meet each other, or find sources changed.

Guarantee: marts stay readable, and the next build makes them what an undisturbed one would have.
"""

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from builds import building
from mart_oracle import check_marts
from mart_records import (
    TENANTS,
    Sent,
    content_of_marts,
    declare_batches,
    empty_marts,
    evaluation,
    mart_names,
    publish_shares,
    push_all,
    rows_of,
    some_records,
    whole_marts,
)

from assets.warehouse.build import run_dbt
from assets.warehouse.dbt_runner import DbtFailedError, Outcome, invoke_dbt
from assets.warehouse.project import PROJECT_DIR, kept_manifest
from assets.warehouse.reconciliation import reconcile
from storage.database import Connection, Database
from storage.tenants import create_tenant

Land = Callable[[int], None]
_PATIENCE_SECONDS = 120
_BUILT = 100
_DATA_TESTS = ["test", "--exclude-resource-type", "unit_test"]
_WAITING = """
select 1 from pg_locks inner join pg_stat_activity using (pid)
where not granted and relation = %s::regclass and application_name like 'tidemark-dbt%%'
"""
_REFUSE = """
create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'planted'; end $$;
create trigger planted before insert or update on intermediate.{0} for each statement execute function public.refuse()
"""


def records_in_any_order() -> list[Sent]:
    """Two tenants' records, in an order of chance."""
    records = some_records(seed=5)
    random.Random(5).shuffle(records)  # noqa: S311
    return records


def the_first_records_are_built(database: Database) -> None:
    """What every test here begins with: two builds have been, and `_BUILT` records are in the marts."""
    with database.connect(autocommit=True) as connection:
        for tenant in TENANTS:
            create_tenant(connection, tenant)
        declare_batches(connection)
        publish_shares(connection)
        for first, last in ((0, 80), (80, _BUILT)):
            push_all(connection, records_in_any_order()[first:last])
            run_dbt(["run"], database)


pytestmark = pytest.mark.begins(after=(empty_marts, the_first_records_are_built))


@pytest.fixture
def sent() -> list[Sent]:
    """All records that will be sent; the first `_BUILT` of them have landed."""
    return records_in_any_order()


@pytest.fixture
def land_next(connection: Connection, sent: list[Sent]) -> Land:
    """`land_next(count)`: so many records that have not landed yet, some of the earlier ones with them."""
    position = _BUILT

    def land_next(count: int) -> None:
        nonlocal position
        push_all(connection, sent[max(position - 20, 0) : position + count])
        position += count

    return land_next


@pytest.fixture
def check(connection: Connection, database: Database, sent: list[Sent], land_next: Land) -> Callable[[], None]:
    """`check()`: one more build makes the marts right, by the oracle and by the counts from door to mart."""

    def check() -> None:
        land_next(len(sent))
        run_dbt(["run"], database)
        check_marts(partial(rows_of, connection), sent)
        assert reconcile(connection).holds

    return check


def kill_inside(model: str, database: Database, connection: Connection, *arguments: str) -> None:
    """Start a build in a process of its own and kill it in the middle of this model's transaction."""
    with database.connect() as blocker:
        blocker.execute(f"lock table {model} in exclusive mode")  # type: ignore[arg-type]
        with building(database, *arguments) as doomed:
            until = time.monotonic() + _PATIENCE_SECONDS
            while connection.execute(_WAITING, (model,)).fetchone() is None:
                assert doomed.is_alive(), f"the build ended ({doomed.exitcode}) before it came to {model}"
                assert time.monotonic() < until, f"no build came to {model}"
                time.sleep(0.02)
            doomed.kill()


def is_readable(connection: Connection) -> bool:
    return all(connection.execute(f"select * from marts.{mart}").fetchall() is not None for mart in mart_names())  # type: ignore[arg-type]  # noqa: S608


INCREMENT_DIES_IN = (
    "intermediate.int_evaluation_deltas",
    "intermediate.int_evaluations_daily",
    "intermediate.int_extractor_totals",
    "intermediate.int_outcomes_daily",
    "marts.drift_history_versions",
)


def test_builds_killed_inside_one_model_after_another_lose_nothing_and_count_nothing_twice(
    database: Database, connection: Connection, land_next: Land, check: Callable[[], None]
) -> None:
    for model in INCREMENT_DIES_IN:
        land_next(40)
        kill_inside(model, database, connection, "run")
        assert is_readable(connection)
    check()
    run_dbt(_DATA_TESTS, database)


REBUILD_DIES_IN = ("intermediate.int_evaluations_daily", "marts.drift_trends")


def test_a_killed_rebuild_leaves_marts_readable_and_is_begun_again_by_the_next_build_without_being_asked(
    database: Database, connection: Connection, land_next: Land, check: Callable[[], None]
) -> None:
    for model in REBUILD_DIES_IN:
        land_next(40)
        kill_inside(model, database, connection, "run", "--full-refresh")
        assert is_readable(connection)
    # Not asked to rebuild, and killed once more where it does.
    kill_inside("marts.overview", database, connection, "run")
    assert is_readable(connection)
    check()
    run_dbt(_DATA_TESTS, database)


def test_late_records_of_a_month_that_retention_has_dropped_count_once_also_where_a_rebuild_is_killed(
    database: Database, connection: Connection, sent: list[Sent]
) -> None:
    def counted() -> int:
        [(count,)] = connection.execute("select sum(evaluation_count)::integer from marts.drift_history").fetchall()
        return int(count)

    push_all(connection, sent)
    run_dbt(["run"], database)
    all_of_it = counted()
    connection.execute("delete from raw.evaluations where created_at < '2026-05-01'")
    connection.execute("insert into raw.dropped_months (month, evaluation_count) values ('2026-04-01', 1)")
    late = evaluation(record_id="late", created_at="2026-04-10T00:00:00Z", success=True)
    push_all(connection, [Sent(TENANTS[0], "evaluations", late)])
    kill_inside("intermediate.int_evaluations_daily", database, connection, "run", "--full-refresh")
    for arguments in (["run"], ["run", "--full-refresh"]):
        run_dbt(arguments, database)
        assert counted() == all_of_it + 1


def test_two_builds_at_once_while_records_land_do_not_disturb_each_other(
    database: Database, land_next: Land, check: Callable[[], None]
) -> None:
    land_next(50)
    with building(database, "run") as one, building(database, "run") as other:
        while one.is_alive() or other.is_alive():
            land_next(1)
            time.sleep(0.1)
    assert (one.exitcode, other.exitcode) == (0, 0)
    check()
    run_dbt(_DATA_TESTS, database)


@pytest.mark.parametrize("model", ["int_extractor_totals", "int_templates_daily"])
def test_a_model_that_fails_leaves_marts_readable_and_the_next_builds_catch_up(
    database: Database, connection: Connection, land_next: Land, check: Callable[[], None], model: str
) -> None:
    connection.execute(_REFUSE.format(model))  # type: ignore[arg-type]
    for _ in range(2):
        land_next(40)
        with pytest.raises(DbtFailedError, match=rf"(?s)model\.tidemark\.{model}.*planted"):
            run_dbt(["run"], database)
        assert is_readable(connection)
    connection.execute("drop function public.refuse() cascade")
    check()


def test_a_renamed_or_retyped_source_column_is_an_error_that_names_model_and_column(
    database: Database, connection: Connection, land_next: Land, check: Callable[[], None]
) -> None:
    before = content_of_marts(connection)
    # A view follows what it reads: it is when it has to be made again that a name or a type is another.
    connection.execute("drop view staging.stg_evaluations, staging.stg_drift_forecasts")
    connection.execute("alter table raw.evaluations rename drift_score to drift_points")
    connection.execute("alter table ml.drift_forecasts drop constraint drift_forecasts_method_check")
    connection.execute("alter table ml.drift_forecasts alter method type integer using 1")
    with pytest.raises(DbtFailedError) as failure:
        run_dbt(["run"], database)
    said = str(failure.value)
    assert "model.tidemark.stg_evaluations: " in said
    assert 'column "drift_score" does not exist' in said
    [about_type] = [part for part in said.split("\nmodel.") if part.startswith("tidemark.drift_forecasts")]
    assert "contract" in about_type
    assert "| method " in about_type
    assert content_of_marts(connection) == before
    connection.execute("alter table raw.evaluations rename drift_points to drift_score")
    connection.execute("drop view if exists staging.stg_drift_forecasts")
    connection.execute("alter table ml.drift_forecasts alter method type text using 'prophet'")
    check()


def plain_dbt(database: Database, arguments: Sequence[str]) -> Outcome:
    """What somebody gets who calls dbt on the project without Tidemark's ways."""
    manifest = kept_manifest(database.platform.database).packed()
    with tempfile.TemporaryDirectory() as target:
        return invoke_dbt(
            arguments,
            database.platform,
            target_path=Path(target),
            project_dir=PROJECT_DIR,
            packed_manifest=manifest,
        )


REFUSED = {
    "the fact, of which its parent keeps only what is new": (
        ["run", "--full-refresh", "--select", "int_evaluations_daily"],
        "int_evaluations_daily",
        "can't be made anew from it alone",
    ),
    "what the fact has added up already": (
        ["run", "--full-refresh", "--select", "int_batches", "int_feedback_versions", "int_evaluation_deltas"],
        "int_evaluations_daily",
        "would count twice",
    ),
    "feedback of which the newest is not counted yet": (
        ["run", "--full-refresh", "--select", "int_batches", "int_feedback_versions"],
        "int_evaluation_deltas",
        "would count twice",
    ),
    "outcomes that are added up already": (
        ["run", "--full-refresh", "--select", "int_batches", "int_feedback_versions"],
        "int_outcomes_daily",
        "would count twice",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_plain_dbt_that_makes_a_part_anew_is_refused_with_the_remedy_where_it_would_lose_or_double_increments(
    database: Database, connection: Connection, land_next: Land, check: Callable[[], None], what: str
) -> None:
    arguments, refused, why = REFUSED[what]
    before = whole_marts(connection)
    land_next(50)
    problems = dict(plain_dbt(database, arguments).problems)
    problems |= plain_dbt(database, ["run", "--select", refused]).problems
    assert why in problems[f"model.tidemark.{refused}"]
    assert "tidemark refresh --full" in problems[f"model.tidemark.{refused}"]
    assert whole_marts(connection) == before
    if why == "would count twice":
        run_dbt(["run", "--full-refresh"], database)
    check()
