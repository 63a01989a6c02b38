"""The check that readers see only their tenants' rows: after every build of the marts, before anyone relies on them.

Belongs here: the asset check. Does not belong here: how leaks are found (`storage.leaks`).
"""

import dagster as dg

from storage.database import Database
from storage.leaks import find_leaks


@dg.asset_check(
    asset=dg.AssetKey(["marts", "dim_tenants"]),
    blocking=True,
    description="Row-level security guards everything that reader roles may read: tables, views and functions.",
)
def readers_see_only_their_tenants(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Nothing that a reader may read shows other tenants' rows."""
    with database.connect() as connection:
        leaks = find_leaks(connection)
    return dg.AssetCheckResult(
        passed=not leaks,
        description=None if not leaks else "; ".join(map(str, leaks)),
        metadata={"leaks": len(leaks)},
    )
