"""How dbt's graph reads in Dagster: keys, groups, kinds, owners.

Importing this module imports dagster-dbt, which costs a second: do it inside the function that needs it.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject

from assets.cadence import CHECK_TAGS, OVERDUE_AFTER, STALE_AFTER

OWNER = "team:tidemark"
# Tables that one landing writes together are one asset.
_SOURCE_KEYS = {
    ("raw", "evaluations"): "evaluations",
    ("raw", "evaluation_keys"): "evaluations",
    ("raw", "feedback"): "feedback",
    ("alerting", "alerts"): "alerts",
    ("ml", "extractor_changes"): "extractor_posteriors",
}
# Written by what reads the marts: as that asset's own this would be a circle. What was published is never changed, and
# records that name it come after it.
_OF_NO_ASSET = frozenset({("ml", "extractor_shares")})


class WarehouseTranslator(DagsterDbtTranslator):  # type: ignore[misc]
    """Models are keyed [schema, name] and grouped by schema; sources are the assets that write them."""

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """`marts/drift_history` for a model, `evaluations` for the source raw.evaluations."""
        schema, name = dbt_resource_props["schema"], dbt_resource_props["name"]
        if dbt_resource_props["resource_type"] != "source":
            return dg.AssetKey([schema, name])
        own_key = _SOURCE_KEYS.get((schema, name))
        if own_key is None and schema == "ml" and (schema, name) not in _OF_NO_ASSET:
            own_key = name
        return dg.AssetKey([schema, name] if own_key is None else [own_key])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The schema: staging, intermediate or marts."""
        return str(dbt_resource_props["schema"])

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """The spec, with what a model is (table or view) among its kinds; marts are to be fresh."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        materialized = self.get_resource_props(manifest, unique_id).get("config", {}).get("materialized")
        kinds = {"dbt", "postgres", "view" if materialized == "view" else "table"}
        fresh = dg.FreshnessPolicy.time_window(fail_window=STALE_AFTER, warn_window=OVERDUE_AFTER)
        owned: dg.AssetSpec = spec.replace_attributes(
            kinds=kinds, owners=[OWNER], freshness_policy=fresh if spec.group_name == "marts" else None
        )
        return owned

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """The spec, with the test's dbt tags in its metadata, so that jobs can choose by them."""
        spec: dg.AssetCheckSpec | None = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        tags = list(self.get_resource_props(manifest, unique_id).get("tags", []))
        return None if spec is None else spec.with_metadata({**(spec.metadata or {}), CHECK_TAGS: tags})
