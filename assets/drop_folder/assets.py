"""Dagster's view of the drop folder: the asset `dropped_files`, whose run lands what lies ready."""

from collections.abc import Callable, Iterator

import dagster as dg

from assets.drop_folder.folder import DropFolder
from assets.drop_folder.landing import Landed, OnBatch, land_ready
from assets.drop_folder.looking import look
from storage.clock import Clock
from storage.database import Database
from storage.settings import Settings

GROUP = "drop_folder"
_ROWS_SHOWN = 50
_FAILURES_NAMED = 20
_COUNTS = ("accepted", "duplicates", "conflicts", "rejected")
_SHOWN = ("tenant", "path", "state", *_COUNTS, "error")
_CHECK = dg.AssetCheckSpec(
    "every_file_could_be_read",
    asset="dropped_files",
    description="No file of this run failed; one that did is tried again when it changes.",
)


class FolderAwayError(Exception):
    """The folder failed amid a run; the next one goes on."""


@dg.asset(
    key="dropped_files",
    group_name=GROUP,
    owners=["team:tidemark"],
    kinds={"python", "postgres"},
    check_specs=[_CHECK],
    description="The files of the drop folder (raw.dropped_files): each lands once, from where a killed run stopped.",
)
def dropped_files(
    context: dg.AssetExecutionContext,
    database: dg.ResourceParam[Database],
    settings: dg.ResourceParam[Settings],
    clock: dg.ResourceParam[Clock],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Land what is ready now."""
    folder = DropFolder(settings.drop_folder_address)
    with database.connect(autocommit=True) as connection:
        ready = look(connection, folder, clock.now()).ready
        landed = land_ready(connection, folder, ready, clock, _teller(context.log.info))
    yield dg.MaterializeResult(asset_key="dropped_files", metadata=_metadata(landed))
    yield dg.AssetCheckResult(
        check_name=_CHECK.name,
        asset_key="dropped_files",
        passed=not landed.failed,
        severity=dg.AssetCheckSeverity.WARN,
        description=_failures(landed),
        metadata={"failed": landed.failed},
    )
    if landed.interrupted:
        raise FolderAwayError("; ".join(landed.interrupted))


def _failures(landed: Landed) -> str | None:
    told = [f"{file['path']}: {file['error']}" for file in landed.files if file["state"] == "failed"]
    more = f"; and {len(told) - _FAILURES_NAMED} more" if len(told) > _FAILURES_NAMED else ""
    return "; ".join(told[:_FAILURES_NAMED]) + more or None


def _teller(tell: Callable[[str], None]) -> OnBatch:
    return lambda file, records, _: tell(f"{file.path}: {records:,} records")


def _metadata(landed: Landed) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {count: dg.MetadataValue.int(landed.total(count)) for count in _COUNTS}
    metadata |= {"files": dg.MetadataValue.int(len(landed.files)), "failed": dg.MetadataValue.int(landed.failed)}
    rows = [
        dg.TableRecord({name: str("" if file[name] is None else file[name]) for name in _SHOWN})
        for file in landed.files[:_ROWS_SHOWN]
    ]
    # Dagster takes no table without a row.
    return metadata | ({"per_file": dg.MetadataValue.table(rows)} if rows else {})
