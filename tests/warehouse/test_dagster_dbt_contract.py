"""What is used of dagster-dbt and dbt that they don't promise.

When one of these fails, look at `assets.warehouse.build` and `assets.warehouse.dbt_runner`.
"""

import inspect
from importlib.metadata import version

from dagster_dbt.asset_utils import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY, get_manifest_and_translator_from_dbt_assets
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest
from dbt_common.events.functions import msg_to_dict

from assets.warehouse.assets import warehouse_assets
from assets.warehouse.build import UNIQUE_ID
from assets.warehouse.translator import WarehouseTranslator


def test_the_pinned_versions_are_the_ones_this_was_written_for() -> None:
    assert version("dagster-dbt").startswith("0.29.")
    assert version("dbt-core").startswith(("1.10.", "1.11."))


def test_events_are_made_from_a_logged_event_and_read_with_manifest_translator_and_context() -> None:
    made_from = inspect.signature(DbtCoreCliEventMessage).parameters
    assert list(made_from) == ["raw_event", "event_history_metadata"]
    read_with = list(inspect.signature(DbtCoreCliEventMessage.to_default_asset_events).parameters)
    assert read_with[:4] == ["self", "manifest", "dagster_dbt_translator", "context"]


def test_only_results_of_models_and_tests_become_events() -> None:
    def is_result(name: str, unique_id: str) -> bool:
        raw = {"info": {"name": name}, "data": {"node_info": {"unique_id": unique_id}}}
        return bool(DbtCoreCliEventMessage(raw, {}).is_result_event)

    assert is_result("LogModelResult", "model.tidemark.overview")
    assert is_result("LogTestResult", "test.tidemark.one")
    assert not is_result("LogTestResult", "unit_test.tidemark.one")
    assert not is_result("NodeFinished", "model.tidemark.overview")


def test_assets_carry_their_unique_id_and_translator() -> None:
    assert UNIQUE_ID == DAGSTER_DBT_UNIQUE_ID_METADATA_KEY
    [definition] = warehouse_assets()
    assert all(spec.metadata[UNIQUE_ID].startswith("model.tidemark.") for spec in definition.specs)
    assert all((check.metadata or {})[UNIQUE_ID].startswith("test.tidemark.") for check in definition.check_specs)
    assert isinstance(get_manifest_and_translator_from_dbt_assets([definition])[1], WarehouseTranslator)


def test_the_runner_takes_a_manifest_and_callbacks() -> None:
    assert list(inspect.signature(dbtRunner).parameters) == ["manifest", "callbacks"]
    assert callable(Manifest.from_msgpack)
    assert list(inspect.signature(msg_to_dict).parameters) == ["msg"]
