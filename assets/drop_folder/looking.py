"""A look at the drop folder: what is new, what is still being written, what can land now.

Belongs here: when a file is ready. Does not belong here: landing it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from assets.drop_folder.folder import DropFolder, DroppedFile, LeftAlone
from assets.drop_folder.ledger import Known, known_files, note, note_gone, only_worker
from assets.evaluations.files import Format
from storage.database import Connection
from storage.errors import UsageError
from storage.tenants import require_tenant

# Nothing tells that a writer has finished, but that its file stays as it is from one look to the next.
SETTLES_AFTER = timedelta(seconds=5)
# A log may never rest. Its whole lines are what they are, so it is read while it grows.
_RESTLESS_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Ready:
    """A file that can land now.

    Attributes:
        file: which.
        settled: whether its last line counts although it has no end, because nobody seems to write it any more.
    """

    file: DroppedFile
    settled: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found.

    Attributes:
        ready: can land now.
        waiting: how many files may still be being written.
        left_alone: what nobody will land, and why.
    """

    ready: tuple[Ready, ...]
    waiting: int
    left_alone: tuple[LeftAlone, ...]


def look(
    connection: Connection, folder: DropFolder, now: datetime, *, tenant: str | None = None, at_once: bool = False
) -> Look:
    """Look into the folder, and remember what was seen for the next look.

    Args:
        connection: in autocommit mode.
        folder: where.
        now: the server's time, aware.
        tenant: that one's files alone.
        at_once: take every new file for written to its end: a person says so.

    Raises:
        UsageError: there is no such folder or no such tenant.
    """
    if tenant is not None:
        require_tenant(connection, tenant)
    if not folder.exists():
        raise UsageError(
            f"there is no folder {folder.address}: make it, with a folder in it for each tenant, or set "
            "TIDEMARK_DROP_FOLDER."
        )
    tenants = _tenants(connection)
    found, left_alone = folder.contents(tenants)
    if tenant is not None:
        found = [file for file in found if file.tenant_id == tenant]
        left_alone = _of(tenant, left_alone)
    known = {file.path: file for file in known_files(connection, tenants if tenant is None else [tenant])}
    ready, waiting = [], 0
    for file in found:
        before = known.pop(file.path, None)
        if before is None or before.mark != file.mark:
            note(connection, file, before.version if before else 1, now)
        elif before.state not in ("waiting", "landing"):
            continue
        if before is not None and _is_being_landed(connection, before):
            continue
        settled = at_once or _has_settled(file, before, now)
        if settled or _never_rests(file, before, now):
            ready.append(Ready(file, settled))
        else:
            waiting += 1
    _note_gone(connection, list(known.values()), now)
    return Look(tuple(ready), waiting, tuple(left_alone))


def what_is_left_alone(connection: Connection, folder: DropFolder, tenant: str | None) -> list[LeftAlone]:
    """What nobody will land, and why, without a trace of this look; of one tenant, or of all and of none."""
    left_alone = folder.contents(_tenants(connection))[1] if folder.exists() else []
    return left_alone if tenant is None else _of(tenant, left_alone)


def _of(tenant: str, left_alone: Sequence[LeftAlone]) -> list[LeftAlone]:
    return [item for item in left_alone if item.path.partition("/")[0] == tenant]


def _tenants(connection: Connection) -> list[str]:
    return [row[0] for row in connection.execute("select tenant_id from access.tenants order by 1")]


def _has_settled(file: DroppedFile, before: Known | None, now: datetime) -> bool:
    return before is not None and before.mark == file.mark and now - before.marked_at >= SETTLES_AFTER


def _never_rests(file: DroppedFile, before: Known | None, now: datetime) -> bool:
    is_log = file.file_format is Format.NDJSON and file.grows
    return is_log and before is not None and now - before.first_seen_at >= _RESTLESS_AFTER


def _is_being_landed(connection: Connection, known: Known) -> bool:
    if known.read_mark is None:
        return False
    with only_worker(connection, known.path) as alone:
        return not alone


def _note_gone(connection: Connection, absent: Sequence[Known], now: datetime) -> None:
    for known in absent:
        if known.state in ("waiting", "landing") and not _is_being_landed(connection, known):
            note_gone(connection, known, now)
