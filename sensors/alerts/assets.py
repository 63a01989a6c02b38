"""Alerts among Dagster's nightly assets: the log of notifications, pruned.

Does not belong here: what may go (`retention`), the alert tables as an asset (`sensors`).
"""

from datetime import timedelta

import dagster as dg

from sensors.alerts.retention import prune_notifications
from storage.audit import acting_as
from storage.clock import Clock
from storage.database import Database
from storage.settings import Settings


def alert_log_retention(nightly: str) -> dg.AssetsDefinition:
    """The asset that prunes the log.

    Args:
        nightly: the tag of what a refresh leaves to the nightly run.
    """

    @dg.asset(
        name="alert_log_retention",
        group_name="maintenance",
        owners=["team:tidemark"],
        kinds={"postgres"},
        tags={nightly: ""},
        description="Forgets what was told of alerts that are over, and what kept it back, older than "
        "TIDEMARK_ALERT_LOG_RETENTION_DAYS; never what is still read. Alerts stay.",
    )
    def alert_log_retention(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        settings: dg.ResourceParam[Settings],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult[None]:
        before = clock.now() - timedelta(days=settings.alert_log_retention_days)
        with database.connect(autocommit=True) as connection, acting_as(f"run:{context.run_id}"):
            pruned = prune_notifications(connection, before)
        return dg.MaterializeResult(metadata={f"{name}_dropped": count for name, count in vars(pruned).items()})

    return alert_log_retention
