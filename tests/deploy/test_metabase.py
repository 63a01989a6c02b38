"""deploy/metabase: the questions run as a reader, and what the marts tell dbt-metabase agrees with their contracts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from storage.database import Connection
from storage.settings import PROJECT_ROOT

QUESTIONS = sorted((PROJECT_ROOT / "deploy" / "metabase" / "questions").glob("*.sql"))
# Metabase's own names; one that it doesn't know, it refuses.
SEMANTIC_TYPES = {
    "type/PK",
    "type/FK",
    "type/Category",
    "type/Name",
    "type/Title",
    "type/User",
    "type/Quantity",
    "type/Score",
    "type/Percentage",
    "type/Duration",
    "type/CreationDate",
    "type/CreationTimestamp",
    "type/UpdatedTimestamp",
}
Marts = dict[str, Mapping[str, Any]]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda path: path.stem)
def test_a_question_runs_as_a_reader_and_answers_with_its_tenants_rows(question: Path, reader: Connection) -> None:
    cursor = reader.execute(question.read_text())  # type: ignore[arg-type]
    names = [column.name for column in cursor.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    assert {row.get("tenant_id", "acme") for row in rows} <= {"acme"}
    # Forecasts and alerts are not made by dbt, and features have no baseline in a week.
    assert rows or question.stem in {"alerts", "forecast_against_actual", "feature_drift"}


def test_every_mart_says_what_it_is_for_and_every_hint_is_one_that_metabase_knows(marts: Marts) -> None:
    for name, mart in marts.items():
        assert _hints(mart)["points_of_interest"], name
        assert set(_hints(mart)) <= {"points_of_interest", "caveats"}, name
        for column, hints in _columns(mart):
            known = {"semantic_type", "fk_target_table", "fk_target_field", "display_name", "visibility_type"}
            assert set(hints) <= known, (name, column)
            assert hints.get("semantic_type", "type/PK") in SEMANTIC_TYPES, (name, column)
            assert hints.get("visibility_type", "details-only") == "details-only", (name, column)


def test_keys_for_metabase_are_the_contracts_keys(marts: Marts) -> None:
    for name, mart in marts.items():
        for column, hints in _columns(mart):
            constraints = {each["type"]: each for each in mart["columns"][column]["constraints"]}
            kind = hints.get("semantic_type")
            if "foreign_key" in constraints:
                assert kind == "type/FK", (name, column)
                assert hints["fk_target_table"].removeprefix("marts.") in constraints["foreign_key"]["to"]
                assert [hints["fk_target_field"]] == constraints["foreign_key"]["to_columns"]
            elif "primary_key" in constraints:
                assert kind == "type/PK", (name, column)
            else:
                assert kind != "type/PK", (name, column)
            if kind == "type/FK":
                schema, target = hints["fk_target_table"].split(".")
                assert (schema, hints["fk_target_field"] in marts[target]["columns"]) == ("marts", True)


def _hints(node: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("metabase."): value for name, value in node["config"]["meta"].items()}


def _columns(mart: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, column in mart["columns"].items():
        yield name, _hints(column)
