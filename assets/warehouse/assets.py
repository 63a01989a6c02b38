"""The dbt models as Dagster assets, their tests as asset checks."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.warehouse.build import DagsterEvent, build_selected
from assets.warehouse.project import DEFAULT_DATABASE, kept_manifest
from storage.database import Database


def warehouse_assets(database_name: str = DEFAULT_DATABASE) -> list[dg.AssetsDefinition]:
    """Staging, intermediate and marts as one definition that can be materialized in parts.

    Args:
        database_name: the database that table names shown in Dagster start with.

    Raises:
        DbtFailedError: the dbt project doesn't parse.
    """
    from dagster_dbt import dbt_assets

    from assets.warehouse.translator import WarehouseTranslator

    manifest: Any = kept_manifest(database_name).read()

    @dbt_assets(manifest=manifest, dagster_dbt_translator=WarehouseTranslator(), name="warehouse")  # type: ignore[untyped-decorator]
    def warehouse(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> Iterator[DagsterEvent]:
        yield from build_selected(context, database, manifest)

    return [warehouse]
