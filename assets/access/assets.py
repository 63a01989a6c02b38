"""The audit log each night: ended days sealed, all kept days verified, then what need no longer be kept dropped."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg

from assets.cadence import NIGHTLY
from storage.audit import acting_as
from storage.audit_seals import Sealing, drop_released_days, make_days_ahead, seal_ended_days, verify_log
from storage.database import Database
from storage.settings import Settings

# More than a run is kept for: whatever Dagster still knows is a witness.
WITNESSES = 1000

_GROUP = "access"
_OWNERS = ["team:tidemark"]
_SEAL = dg.AssetKey("audit_seal")


@dg.asset(
    group_name=_GROUP,
    owners=_OWNERS,
    tags={NIGHTLY: ""},
    kinds={"python", "postgres"},
    description="Seals each ended UTC day of the audit log by SHA-256, chained with the day before. The digest in this "
    "asset's metadata lies in another database than the log: it bears witness.",
)
def audit_seal(
    context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult[None]:
    """Seal what has ended, and make the coming days' partitions."""
    with database.connect(autocommit=True) as connection:
        make_days_ahead(connection)
        sealing = seal_ended_days(connection, settings.audit_retention_days)
    if sealing.waiting is not None:
        context.log.warning(sealing.waiting)
    return dg.MaterializeResult(metadata=_told(sealing))


def _told(sealing: Sealing) -> dict[str, Any]:
    newest = sealing.newest
    return {
        "days_sealed": len(sealing.sealed),
        "entries_sealed": sum(seal.entries for seal in sealing.sealed),
        "waiting": sealing.waiting or "nothing",
        **({} if newest is None else {"newest_day": newest.day.isoformat(), "digest": newest.digest.hex()}),
    }


@dg.asset_check(
    asset=_SEAL,
    blocking=True,
    description="Every kept day of the audit log is as it was sealed, and every seal as it was told to Dagster. "
    "Nothing of the log is dropped while it is not so.",
)
def audit_log_is_untampered(
    context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
) -> dg.AssetCheckResult:
    """Calculate the chain anew and name the days that differ."""
    with database.connect(autocommit=True) as connection:
        verified = verify_log(connection, dict(_witnesses(context.instance)))
    return dg.AssetCheckResult(
        passed=not verified.tampering,
        description="; ".join(map(str, verified.tampering)) or "Every kept day is as it was sealed.",
        metadata={
            "tampering": len(verified.tampering),
            "days": len(verified.seals),
            "entries": verified.entries,
            "entries_not_sealed_yet": verified.unsealed,
        },
    )


def _witnesses(instance: dg.DagsterInstance) -> Iterator[tuple[date, bytes]]:
    for record in instance.fetch_materializations(_SEAL, limit=WITNESSES).records:
        told = record.asset_materialization.metadata if record.asset_materialization else {}
        if "digest" in told:
            yield date.fromisoformat(str(told["newest_day"].value)), bytes.fromhex(str(told["digest"].value))


@dg.asset(
    group_name=_GROUP,
    owners=_OWNERS,
    tags={NIGHTLY: ""},
    kinds={"postgres"},
    deps=[audit_seal],
    description="Drops entries of the audit log older than TIDEMARK_AUDIT_RETENTION_DAYS, whole sealed days at a time. "
    "Seals stay for ever.",
)
def audit_retention(
    context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
) -> dg.MaterializeResult[None]:
    """Drop the days that the newest seal has released."""
    with database.connect(autocommit=True) as connection, acting_as(f"run:{context.run_id}"):
        days = drop_released_days(connection)
    return dg.MaterializeResult(metadata={"days_dropped": len(days)})


def audit_assets() -> list[dg.AssetsDefinition]:
    """What looks after the audit log each night."""
    return [audit_seal, audit_retention, audit_log_is_untampered]
