"""Asset `tenant_reports` and its check: each tenant's report as a file.

Belongs here: Dagster's view of reports. Does not belong here: numbers (tables.py), files (files.py).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.reports.files import KEPT, LATEST, Written, file_report
from assets.reports.tables import read_report
from storage.database import Database
from storage.settings import Settings

MARTS = (
    "dim_tenants",
    "overview",
    "evaluation_daily_stats",
    "drift_history",
    "drift_trends",
    "drift_forecasts",
    "extractor_recommendations",
    "recent_alerts",
    "data_quality",
    "review_queue",
)
TENANTS = "select tenant_id from access.tenants order by tenant_id"
TABLE_ROWS = 20
CHECK = "every_tenant_has_its_report"


@dg.asset(
    group_name="reports",
    owners=["team:tidemark"],
    kinds={"python", "html"},
    deps=[dg.AssetKey(["marts", mart]) for mart in MARTS],
    check_specs=[
        dg.AssetCheckSpec(CHECK, asset="tenant_reports", description="No tenant's report failed; names those that did.")
    ],
    description=(
        "Each tenant's marts as one HTML page that needs nothing else, in TIDEMARK_HOME/reports/TENANT/: the newest "
        f"{KEPT} under their day, and {LATEST}."
    ),
)
def tenant_reports(
    context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], settings: dg.ResourceParam[Settings]
) -> Iterator[dg.MaterializeResult[None]]:
    """Write the reports of all tenants, one after the other; what fails for one leaves the others theirs."""
    folder = settings.home / "reports"
    with database.connect() as connection:
        tenants = [row[0] for row in connection.execute(TENANTS)]
    written: dict[str, Written] = {}
    failures: dict[str, str] = {}
    for tenant_id in tenants:
        try:
            with database.connect(autocommit=True) as connection:
                written[tenant_id] = file_report(read_report(connection, tenant_id), folder)
        # Whatever it is, the next tenant's report may be fine; the check names it.
        except Exception as error:
            context.log.exception(f"report of tenant {tenant_id}")
            failures[tenant_id] = str(error)
    yield dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(folder)),
            "tenants": len(written),
            "bytes": sum(report.bytes for report in written.values()),
            "reports": dg.MetadataValue.table(list(_records(written))[:TABLE_ROWS]),
        },
        check_results=[_verdict(failures)],
    )


def _records(written: dict[str, Written]) -> Iterator[dg.TableRecord]:
    for tenant_id, report in written.items():
        yield dg.TableRecord(
            {"tenant": tenant_id, "as_of": str(report.as_of), "bytes": report.bytes, "path": str(report.path)}
        )


def _verdict(failures: dict[str, str]) -> dg.AssetCheckResult:
    rows = [dg.TableRecord({"tenant": tenant_id, "cause": cause}) for tenant_id, cause in failures.items()]
    metadata: dict[str, Any] = {"failed": len(failures)}
    if rows:
        metadata["failures"] = dg.MetadataValue.table(rows[:TABLE_ROWS])
    return dg.AssetCheckResult(passed=not failures, check_name=CHECK, metadata=metadata)


def definitions() -> list[dg.AssetsDefinition]:
    """The report's asset, for orchestration."""
    return [tenant_reports]
