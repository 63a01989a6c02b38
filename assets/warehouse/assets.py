"""The dbt models as Dagster assets, their tests as asset checks; and what looks after them each night."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.cadence import CHECK_TAGS, NIGHTLY
from assets.warehouse.build import DagsterEvent, build_selected, source_freshness
from assets.warehouse.project import DEFAULT_DATABASE, kept_manifest
from assets.warehouse.reconciliation import Reconciliation, reconcile
from assets.warehouse.retention import Retained, retain
from storage.audit import acting_as
from storage.clock import Clock
from storage.database import Database
from storage.settings import Settings

# Dagster lets one run at a time into a pool whose limit is 1; see `orchestration.instance`.
WAREHOUSE_POOL = "warehouse"
DIFFERENCES_SHOWN = 20

_GROUP = "warehouse"
_OWNERS = ["team:tidemark"]
_COMPARED = ("evaluation_daily_stats", "drift_history", "extractor_performance", "overview")
_DOOR_TO_MART = dg.AssetCheckSpec(
    "door_to_mart",
    asset="reconciliation",
    blocking=True,
    description="Every evaluation and every feedback that was acknowledged is counted once, at each step up to the "
    "marts. Nothing is dropped while it is not so.",
)


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

    @dbt_assets(  # type: ignore[untyped-decorator]
        manifest=manifest,
        dagster_dbt_translator=WarehouseTranslator(),
        name="warehouse",
        pool=WAREHOUSE_POOL,
    )
    def warehouse(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> Iterator[DagsterEvent]:
        yield from build_selected(context, database, manifest)

    return [warehouse]


@dg.asset(
    group_name=_GROUP,
    owners=_OWNERS,
    tags={NIGHTLY: ""},
    pool=WAREHOUSE_POOL,
    kinds={"python", "postgres"},
    deps=[dg.AssetKey(["marts", name]) for name in _COMPARED],
    check_specs=[_DOOR_TO_MART],
    description="The same evaluations and feedback counted by tenant at every step from receipts to marts.",
)
def reconciliation(
    database: dg.ResourceParam[Database],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Count, compare, and let the check say where the counts differ."""
    with database.connect(autocommit=True) as connection:
        found = reconcile(connection)
    yield dg.MaterializeResult(metadata=_counted(found))
    yield dg.AssetCheckResult(
        check_name=_DOOR_TO_MART.name,
        passed=found.holds,
        description="; ".join(map(str, found.differences[:DIFFERENCES_SHOWN])) or "Every step counts the same.",
        metadata={"differences": len(found.differences), "steps": len(found.steps)},
    )


def _counted(found: Reconciliation) -> dict[str, Any]:
    differing = {difference.step for difference in found.differences}
    rows: list[dict[str, str | int | bool]] = [
        {
            "step": step.name,
            "count": sum(step.counts.values()),
            "tenants": len(step.counts),
            "ok": step.name not in differing,
        }
        for step in found.steps
    ]
    return {
        "steps": dg.MetadataValue.table([dg.TableRecord(row) for row in rows]),
        "evaluations": sum(found.steps[0].counts.values()),
        "differences": len(found.differences),
    }


@dg.asset(
    group_name=_GROUP,
    owners=_OWNERS,
    tags={NIGHTLY: ""},
    pool=WAREHOUSE_POOL,
    kinds={"postgres"},
    deps=[reconciliation],
    description="Drops months of evaluations older than TIDEMARK_EVALUATIONS_RETENTION_DAYS once the warehouse has all "
    "of them, and what drift_history said until 90 days ago. Aggregates stay.",
)
def retention(
    context: dg.AssetExecutionContext,
    database: dg.ResourceParam[Database],
    settings: dg.ResourceParam[Settings],
    clock: dg.ResourceParam[Clock],
) -> dg.MaterializeResult[None]:
    """Drop what is no longer kept; say what could not go, and why."""
    with database.connect(autocommit=True) as connection, acting_as(f"run:{context.run_id}"):
        done = retain(connection, settings.evaluations_retention_days, clock.now().date())
    for month in done.months:
        if month.refusal is not None:
            context.log.warning("month %s %s", f"{month.month:%Y-%m}", month.refusal)
    return dg.MaterializeResult(metadata=_dropped(done))


def _dropped(done: Retained) -> dict[str, Any]:
    return {
        "keep_from": str(done.keep_from or "the beginning"),
        "months_dropped": sum(month.evaluations is not None for month in done.months),
        "months_refused": sum(month.refusal is not None for month in done.months),
        "evaluations_dropped": done.evaluations,
        "superseded_versions_dropped": done.superseded,
        "recommendation_snapshots_dropped": done.snapshots,
    }


@dg.asset_check(
    asset="evaluations",
    metadata={CHECK_TAGS: [NIGHTLY]},
    description="Records have been received within the time that dbt's source says (`dbt source freshness`).",
)
def records_keep_arriving(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Nothing downstream is wrong when pipelines fall silent: so it warns and stops nothing."""
    statuses = {name.rsplit(".", 1)[-1]: status for name, status in source_freshness(database).statuses.items()}
    return dg.AssetCheckResult(
        passed=all(status == "pass" for status in statuses.values()),
        severity=dg.AssetCheckSeverity.WARN,
        metadata=statuses,
    )


def care_assets() -> list[dg.AssetsDefinition]:
    """What looks after the warehouse each night: reconciliation, retention behind it, whether records still arrive."""
    return [reconciliation, retention, records_keep_arriving]
