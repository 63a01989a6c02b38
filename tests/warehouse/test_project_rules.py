"""The dbt project's house rules, read off its manifest; and its calculations, by dbt's own unit tests."""

from collections.abc import Mapping
from typing import Any

import pytest
from mart_records import empty_marts

from assets.warehouse.build import run_dbt
from assets.warehouse.project import kept_manifest
from storage.database import Connection, Database

LAYERS = {"staging": "stg_", "intermediate": "int_", "marts": ""}


@pytest.fixture(scope="module")
def manifest() -> Mapping[str, Any]:
    return kept_manifest().read()


@pytest.fixture(scope="module")
def models(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}


def _parents(node: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    known = {**manifest["nodes"], **manifest["sources"]}
    return [known[parent] for parent in node["depends_on"]["nodes"]]


def test_every_model_lies_in_a_layer_and_is_named_after_it(models: dict[str, Mapping[str, Any]]) -> None:
    for node in models.values():
        assert node["schema"] in LAYERS
        assert node["path"].split("/")[0] == node["schema"]
        assert node["name"].startswith(LAYERS[node["schema"]])


def test_sources_are_read_by_staging_alone_one_table_a_model(
    models: dict[str, Mapping[str, Any]], manifest: Mapping[str, Any]
) -> None:
    for node in models.values():
        kinds = [parent["resource_type"] for parent in _parents(node, manifest)]
        assert kinds == ["source"] if node["schema"] == "staging" else "source" not in kinds, node["name"]


def test_no_mart_reads_landed_records_or_another_mart(
    models: dict[str, Mapping[str, Any]], manifest: Mapping[str, Any]
) -> None:
    landed = {"stg_evaluations", "stg_feedback", "stg_evaluation_keys", "stg_ingest_batches"}
    for node in models.values():
        if node["schema"] == "marts":
            parents = _parents(node, manifest)
            assert not landed & {parent["name"] for parent in parents}, node["name"]
            # Its foreign keys make the dimensions its parents; that is the order in which they are built.
            marts = {parent["name"] for parent in parents if parent["schema"] == "marts"}
            assert marts <= {"dim_tenants", "dim_templates"}, node["name"]


@pytest.mark.begins(after=empty_marts)
def test_every_model_and_column_is_described_and_typed(
    models: dict[str, Mapping[str, Any]], connection: Connection
) -> None:
    in_database: dict[tuple[str, str], dict[str, str]] = {}
    query = """
    select relnamespace::regnamespace::text, relname, attname, format_type(atttypid, null),
        col_description(attrelid, attnum), obj_description(pg_class.oid)
    from pg_attribute inner join pg_class on pg_class.oid = attrelid
    where relnamespace::regnamespace::text in ('staging', 'intermediate', 'marts') and attnum > 0
        and relkind in ('r', 'v') and relname not in ('marks', 'definitions') and not attisdropped
    """
    for schema, name, column, kind, comment, about in connection.execute(query):
        assert comment, f"{schema}.{name}.{column} has no comment"
        assert about, f"{schema}.{name} has no comment"
        in_database.setdefault((schema, name), {})[column] = kind
    documented = {
        (node["schema"], node["name"]): {name: column["data_type"] for name, column in node["columns"].items()}
        for node in models.values()
    }
    assert in_database == documented


def test_marts_are_merged_tables_with_an_enforced_contract_tested_keys_no_json_and_no_plain_timestamp(
    models: dict[str, Mapping[str, Any]], manifest: Mapping[str, Any]
) -> None:
    tests = [node for node in manifest["nodes"].values() if node["resource_type"] == "test"]
    for unique_id, node in models.items():
        if node["schema"] != "marts":
            continue
        columns = node["columns"].values()
        keys = [column["name"] for column in columns if _is_key(column)]
        assert len(keys) == 1, node["name"]
        tested = {
            test["test_metadata"]["name"]
            for test in tests
            if test.get("attached_node") == unique_id and test.get("column_name") == keys[0]
        }
        assert {"unique", "not_null"} <= tested, node["name"]
        assert (node["config"]["materialized"], node["config"]["incremental_strategy"]) == ("incremental", "merge")
        assert node["config"]["unique_key"] == keys[0]
        for name, dimension in (("tenant_id", "dim_tenants"), ("template_id", "dim_templates")):
            if name in node["columns"] and node["name"] != dimension:
                assert _references(node["columns"][name], dimension), (node["name"], name)
        assert node["contract"]["enforced"]
        assert not {c["data_type"] for c in columns} & {"json", "jsonb", "timestamp without time zone", "numeric"}
        assert "tenant_id" in node["columns"]


def _is_key(column: Mapping[str, Any]) -> bool:
    return "primary_key" in {constraint["type"] for constraint in column["constraints"]}


def _references(column: Mapping[str, Any], dimension: str) -> bool:
    keys = [constraint for constraint in column["constraints"] if constraint["type"] == "foreign_key"]
    return any(dimension in (constraint["to"] or "") for constraint in keys)


def test_every_mart_that_counts_evaluations_is_reconciled_with_the_fact(
    models: dict[str, Mapping[str, Any]], manifest: Mapping[str, Any]
) -> None:
    reconciled = {
        node["attached_node"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test" and (node.get("test_metadata") or {}).get("name") == "reconciles"
    }
    counting = {
        key
        for key, node in models.items()
        if node["schema"] == "marts"
        and {"int_evaluations_daily", "int_templates_daily", "int_extractor_totals"}
        & {parent["name"] for parent in _parents(node, manifest)}
    }
    assert len(counting) >= 8
    assert counting - reconciled == {"model.tidemark.drift_history_versions"}


def test_the_project_needs_no_package_and_sends_no_statistics(manifest: Mapping[str, Any]) -> None:
    packages = {node["package_name"] for node in manifest["nodes"].values()}
    assert packages == {"tidemark"}
    assert manifest["metadata"]["send_anonymous_usage_stats"] is False


@pytest.mark.begins(after=empty_marts)
def test_the_calculations_give_what_their_examples_say(database: Database) -> None:
    outcome = run_dbt(["test", "--select", "test_type:unit"], database)
    assert len(outcome.statuses) >= 6
    assert set(outcome.statuses.values()) == {"pass"}
