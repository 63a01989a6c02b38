"""The dbt project in Dagster: keys and groups as promised, parts run alone, checks and failures where they belong."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from mart_records import empty_marts, evaluation
from mart_records import push as land_batch

from assets.cadence import CHECK_TAGS, EACH_BUILD
from assets.warehouse.assets import WAREHOUSE_POOL, care_assets, records_keep_arriving, warehouse_assets
from assets.warehouse.build import FULL_REFRESH_TAG, run_dbt, source_freshness, stream_dbt
from storage.clock import Clock
from storage.database import Connection, Database
from storage.settings import Settings
from storage.tenants import create_tenant

Materialize = Callable[..., dg.ExecuteInProcessResult]
TENANT = "acme"
_BACKENDS = "select count(*) from pg_stat_activity where application_name like 'tidemark-dbt%'"
SETTINGS = Settings(evaluations_retention_days=31)  # type: ignore[call-arg]
NOW = datetime(2026, 7, 15, tzinfo=UTC)
EACH_BUILD_CHECK = "every_batch_is_counted_int_evaluation_deltas_"


def one_evaluation_is_built(database: Database) -> None:
    """A tenant, and marts with the one evaluation that it has sent."""
    with database.connect(autocommit=True) as connection:
        create_tenant(connection, TENANT)
        assert land_batch(connection, TENANT, "evaluations", [evaluation()]).accepted == 1
    run_dbt(["run"], database)


@pytest.fixture(scope="module")
def warehouse() -> dg.AssetsDefinition:
    [definition] = warehouse_assets()
    return definition


@pytest.fixture
def materialize(warehouse: dg.AssetsDefinition, database: Database) -> Iterator[Materialize]:
    """`materialize("marts/overview", …)`: a run over those assets and their checks; over all without names."""
    with dg.DagsterInstance.ephemeral() as instance:

        def materialize(*names: str, **tags: str) -> dg.ExecuteInProcessResult:
            keys = [dg.AssetKey(name.split("/")) for name in names]
            return dg.materialize(
                [warehouse, *care_assets()],
                selection=dg.AssetSelection.assets(*keys) if keys else dg.AssetSelection.assets(warehouse),
                resources={"database": database, "settings": SETTINGS, "clock": Clock(lambda: NOW)},
                instance=instance,
                raise_on_error=False,
                tags={name.replace("__", "/"): value for name, value in tags.items()},
            )

        yield materialize


def _materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.materialization.asset_key.to_user_string() for event in _events(result)}


def _events(result: dg.ExecuteInProcessResult) -> list[Any]:
    return [event.event_specific_data for event in result.get_asset_materialization_events()]


def _checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def test_keys_groups_kinds_and_owners_are_as_the_rest_of_the_house_expects(warehouse: dg.AssetsDefinition) -> None:
    specs = {spec.key.to_user_string(): spec for spec in warehouse.specs}
    history = specs["marts/drift_history"]
    assert (history.group_name, list(history.owners)) == ("marts", ["team:tidemark"])
    assert history.kinds == {"dbt", "postgres", "table"}
    assert specs["staging/stg_evaluations"].kinds == {"dbt", "postgres", "view"}
    assert {spec.group_name for spec in specs.values()} == {"staging", "intermediate", "marts"}
    assert [dep.asset_key.to_user_string() for dep in specs["staging/stg_evaluations"].deps] == ["evaluations"]
    assert [dep.asset_key.to_user_string() for dep in specs["staging/stg_evaluation_keys"].deps] == ["evaluations"]
    assert [dep.asset_key.to_user_string() for dep in specs["staging/stg_feedback"].deps] == ["feedback"]
    assert all(spec.description for spec in specs.values())
    assert warehouse.partitions_def is None
    assert warehouse.op.pool == WAREHOUSE_POOL
    assert all((spec.freshness_policy is not None) == (spec.group_name == "marts") for spec in specs.values())
    assert [spec.name for spec in warehouse.check_specs if EACH_BUILD in spec.metadata[CHECK_TAGS]] == [
        EACH_BUILD_CHECK
    ]
    checked = {check.asset_key.to_user_string() for check in warehouse.check_specs}
    assert {key for key in specs if key.startswith("marts/")} <= checked
    schema = history.metadata["dagster/column_schema"]
    assert {"drift_score": "double precision"}.items() <= {c.name: c.type for c in schema.columns}.items()


@pytest.mark.begins(after=empty_marts)
def test_a_run_over_everything_materializes_every_model_and_reports_every_check(
    materialize: Materialize, warehouse: dg.AssetsDefinition, tenant: str, push: Any, an_evaluation: Any
) -> None:
    push(tenant, "evaluations", [an_evaluation(template="a"), an_evaluation(template="b")])
    result = materialize()
    assert result.success
    assert _materialized(result) == {key.to_user_string() for key in warehouse.keys}
    checks = _checks(result)
    assert checks.keys() == {spec.name for spec in warehouse.check_specs}
    assert all(checks.values())
    counts = {
        event.materialization.asset_key.path[-1]: event.materialization.metadata["rows_written"].value
        for event in _events(result)
        if "rows_written" in event.materialization.metadata
    }
    assert (counts["drift_history"], counts["overview"]) == (2, 1)


@pytest.mark.begins(after=empty_marts)
def test_a_part_runs_alone_with_its_own_checks(materialize: Materialize) -> None:
    result = materialize("marts/overview", "staging/stg_alerts")
    assert result.success
    assert _materialized(result) == {"marts/overview", "staging/stg_alerts"}
    assert _checks(result).keys() == {
        "overview_in_range",
        "overview_reconciles",
        "unique_overview_tenant_id",
        "not_null_overview_tenant_id",
    }


@pytest.mark.begins(after=(empty_marts, one_evaluation_is_built))
def test_numbers_that_do_not_reconcile_are_a_failed_check_and_stop_what_lies_below(
    materialize: Materialize, connection: Connection
) -> None:
    connection.execute("update intermediate.int_evaluations_daily set evaluation_count = evaluation_count + 1")
    connection.execute("update intermediate.int_templates_daily set evaluation_count = evaluation_count + 2")
    result = materialize("marts/drift_history")
    assert not result.success
    failed = {name for name, passed in _checks(result).items() if not passed}
    assert failed == {"drift_history_reconciles"}
    assert _materialized(result) == {"marts/drift_history"}


@pytest.mark.begins(after=(empty_marts, one_evaluation_is_built))
def test_a_batch_that_is_not_counted_whole_leaves_the_marts_of_before(
    materialize: Materialize,
    connection: Connection,
    push: Any,
    an_evaluation: Any,
    checksums: Any,
) -> None:
    before = checksums()
    push(TENANT, "evaluations", [an_evaluation(record_id="one"), an_evaluation(record_id="two")])
    connection.execute("delete from raw.evaluations where record_id = 'one'")
    result = materialize()
    assert not result.success
    assert [name for name, passed in _checks(result).items() if not passed] == [EACH_BUILD_CHECK]
    assert not {"marts/overview", "marts/drift_history", "intermediate/int_evaluations_daily"} & _materialized(result)
    # It shows receipts, and those say what they say.
    assert {name for name, rows in checksums().items() if rows != before[name]} == {"tenant_usage"}


@pytest.mark.begins(after=empty_marts)
def test_a_failing_model_fails_the_run_with_dbts_own_message(materialize: Materialize, connection: Connection) -> None:
    connection.execute("alter table intermediate.int_extractor_totals drop column fields_total")
    result = materialize("marts/extractor_performance", "marts/overview")
    assert not result.success
    assert _materialized(result) == {"marts/overview"}
    [failure] = [event for event in result.all_events if event.is_step_failure]
    said = str(failure.step_failure_data.error)
    assert 'column "fields_total" does not exist' in said
    assert "model.tidemark.extractor_performance" in said


@pytest.mark.begins(after=empty_marts)
def test_an_interrupted_run_stops_dbt_and_leaves_no_connection(
    connection: Connection, database: Database, checksums: Any
) -> None:
    before = checksums()
    with database.connect() as blocker:
        blocker.execute("lock table access.templates in access exclusive mode")
        events = stream_dbt(["run"], database.platform, lambda _: None)
        next(events)
        events.close()
        assert connection.execute(_BACKENDS).fetchone() == (0,)
    assert checksums() == before
    run_dbt(["run"], database)
    assert checksums() == before


@pytest.mark.begins(after=(empty_marts, one_evaluation_is_built))
def test_a_run_tagged_so_makes_what_it_selects_anew(
    materialize: Materialize, connection: Connection, checksums: Any
) -> None:
    before = checksums()
    connection.execute("update marts.drift_history set drift_score = 0.9, evaluation_count = 4")
    connection.execute("update intermediate.int_evaluations_daily set evaluation_count = 4")
    assert materialize(**{FULL_REFRESH_TAG: "true"}).success
    assert checksums() == before


@pytest.mark.begins(after=empty_marts)
def test_nothing_is_dropped_while_counts_differ_and_what_is_old_goes_once_they_agree(
    materialize: Materialize, connection: Connection, database: Database, tenant: str, push: Any, an_evaluation: Any
) -> None:
    push(tenant, "evaluations", [an_evaluation(record_id="old"), an_evaluation(created_at="2026-05-31T00:00:00Z")])
    run_dbt(["run"], database)
    connection.execute("update marts.overview set total_evaluations = 1")
    result = materialize("reconciliation", "retention")
    assert not result.success
    assert _materialized(result) == {"reconciliation"}
    [evaluation] = result.get_asset_check_evaluations()
    assert evaluation.description == "overview: 1 of tenant acme, where extractor_performance has 2"
    [steps] = [event.materialization.metadata["steps"].value for event in _events(result)]
    assert [record.data["step"] for record in steps.records if not record.data["ok"]] == ["overview"]

    connection.execute("update marts.overview set total_evaluations = 2")
    result = materialize("reconciliation", "retention")
    assert result.success
    dropped = _events(result)[-1].materialization.metadata
    assert (dropped["months_dropped"].value, dropped["evaluations_dropped"].value) == (1, 2)


def test_pipelines_that_fall_silent_are_a_warning(
    connection: Connection, database: Database, tenant: str, push: Any, an_evaluation: Any
) -> None:
    push(tenant, "evaluations", [an_evaluation()])
    assert source_freshness(database).statuses == {"source.tidemark.raw.ingest_batches": "pass"}
    connection.execute("update raw.ingest_batches set received_at = received_at - interval '2 days'")
    result = dg.materialize(
        [dg.AssetSpec("evaluations"), records_keep_arriving],
        selection=dg.AssetSelection.checks(records_keep_arriving),
        resources={"database": database},
    )
    [evaluation] = result.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert evaluation.metadata["ingest_batches"].value == "warn"
