"""The memory of the drop folder, `raw.dropped_files`: which files are known, and how far each has landed.

Belongs here: the table's rows, read and written. Does not belong here: any decision on them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row, dict_row

from assets.drop_folder.folder import DroppedFile
from assets.drop_folder.read_along import Beginning
from assets.evaluations.verdicts import Line, Place, Receipt
from storage.database import Connection
from storage.errors import TidemarkError
from storage.locks import AdvisoryLock

_NEWEST = """
select distinct on (tenant_id, path)
    tenant_id, path, version, state, mark, marked_at, read_mark, read_size, offset_done, lines_done, tail_bytes,
    read_bytes, read_sha256, first_seen_at
from raw.dropped_files
where tenant_id = any(%(tenants)s) and (%(path)s::text is null or path = %(path)s)
order by tenant_id, path, version desc
"""

_NOTE = """
insert into raw.dropped_files as known
    (tenant_id, path, version, kind, state, size, mark, marked_at, first_seen_at)
values
    (%(tenant_id)s, %(path)s, %(version)s, %(kind)s, 'waiting', %(size)s, %(mark)s, %(now)s, %(now)s)
on conflict (tenant_id, path, version) do update set
    state = 'waiting', size = excluded.size, mark = excluded.mark, marked_at = excluded.marked_at
where known.mark <> excluded.mark
"""

_NOTE_GONE = """
update raw.dropped_files set
    state = 'failed', mark = '', error = 'was taken away before it had landed whole', finished_at = %(now)s
where tenant_id = %(tenant_id)s and path = %(path)s and version = %(version)s and state in ('waiting', 'landing')
"""

_SUPERSEDE = """
update raw.dropped_files set state = 'superseded'
where tenant_id = %(tenant_id)s and path = %(path)s and version < %(version)s
"""

_BEGIN = """
insert into raw.dropped_files as known
    (tenant_id, path, version, kind, state, size, mark, marked_at, read_mark, read_size, first_seen_at)
values
    (%(tenant_id)s, %(path)s, %(version)s, %(kind)s, 'landing', %(size)s, %(mark)s, %(now)s, %(mark)s, %(size)s,
     %(now)s)
on conflict (tenant_id, path, version) do update set
    state = 'landing', size = excluded.size, mark = excluded.mark, read_mark = excluded.mark,
    read_size = excluded.read_size, offset_done = %(offset)s, lines_done = %(lines)s, finished_at = null, error = null
"""

# Whoever has moved it on meanwhile has landed these lines: then this batch must not.
_MOVE_ON = """
update raw.dropped_files set
    offset_done = %(offset)s, lines_done = %(lines)s, tail_bytes = %(tail_bytes)s, read_bytes = %(read_bytes)s,
    read_sha256 = %(read_sha256)s,
    accepted = accepted + %(accepted)s, duplicates = duplicates + %(duplicates)s,
    conflicts = conflicts + %(conflicts)s, rejected = rejected + %(rejected)s, batches = batches + 1
where
    tenant_id = %(tenant_id)s and path = %(path)s and version = %(version)s
    and offset_done = %(offset_before)s and lines_done = %(lines_before)s
"""

# A look that found it changed meanwhile has set it waiting, and waiting it stays.
_END = """
update raw.dropped_files set
    state = case when mark = read_mark then %(state)s else 'waiting' end, error = %(error)s,
    finished_at = %(finished_at)s
where tenant_id = %(tenant_id)s and path = %(path)s and version = %(version)s
"""

_REPORTS = """
select * from (
    select distinct on (tenant_id, path)
        tenant_id as tenant, path, state, size, accepted, duplicates, conflicts, rejected, batches, first_seen_at,
        finished_at, error
    from raw.dropped_files
    where
        (%(tenant)s::text is null or tenant_id = %(tenant)s)
        and (%(paths)s::text[] is null or path = any(%(paths)s))
    order by tenant_id, path, version desc
) as newest
order by first_seen_at desc, tenant, path
limit %(limit)s
"""

_LOCK = "select pg_try_advisory_lock(hashtextextended(%(file)s, %(seed)s))"
_UNLOCK = "select pg_advisory_unlock(hashtextextended(%(file)s, %(seed)s))"


class OvertakenError(TidemarkError):
    """Another worker has landed what this one was about to land; nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Known:
    """The newest version of a file that the ledger knows; its columns tell the rest."""

    tenant_id: str
    path: str
    version: int
    state: str
    mark: str
    marked_at: datetime
    read_mark: str | None
    read_size: int
    offset_done: int
    lines_done: int
    tail_bytes: int
    read_bytes: int
    read_sha256: bytes | None
    first_seen_at: datetime

    @property
    def place(self) -> Place:
        """Up to where it has landed."""
        return Place(self.offset_done, self.lines_done)


def known_files(connection: Connection, tenants: Sequence[str], path: str | None = None) -> list[Known]:
    """The newest version of each file of these tenants, or of the one that is named."""
    with connection.cursor(row_factory=class_row(Known)) as cursor:
        return cursor.execute(_NEWEST, {"tenants": list(tenants), "path": path}).fetchall()


def note(connection: Connection, found: DroppedFile, version: int, now: datetime) -> None:
    """Remember that a file was seen with this mark, if that is news."""
    connection.execute(_NOTE, _file(found, version) | {"now": now})


def note_gone(connection: Connection, known: Known, now: datetime) -> None:
    """Remember that a file which had not landed whole is not there any more."""
    names = {"tenant_id": known.tenant_id, "path": known.path, "version": known.version}
    connection.execute(_NOTE_GONE, names | {"now": now})


@contextmanager
def only_worker(connection: Connection, path: str) -> Iterator[bool]:
    """Be the one that lands this file until the block ends, or the process; False if another is at it."""
    names = {"file": path, "seed": AdvisoryLock.DROPPED_FILE.value}
    held = connection.execute(_LOCK, names).fetchone() == (True,)
    try:
        yield held
    finally:
        if held and not connection.closed:
            connection.execute(_UNLOCK, names)


def begin(connection: Connection, found: DroppedFile, version: int, start: Place, now: datetime) -> None:
    """Write down that landing of a version begins, or goes on, at a place."""
    names = _file(found, version)
    with connection.transaction():
        connection.execute(_SUPERSEDE, names)
        connection.execute(_BEGIN, names | {"offset": start.offset, "lines": start.lines, "now": now})


def moving_on(
    found: DroppedFile, version: int, before: Place, last: Line, begins: Beginning | None
) -> Callable[[Connection, Receipt], None]:
    """What moves the ledger on in the transaction that lands a batch.

    Args:
        found: the file.
        version: which of its contents.
        before: where the batch begins.
        last: its last line.
        begins: what of the file had been read by then, if it is one that grows.

    Returns:
        a function that raises OvertakenError if the ledger is not at `before` any more.
    """

    def write(connection: Connection, receipt: Receipt) -> None:
        names = _file(found, version) | {
            "offset_before": before.offset,
            "lines_before": before.lines,
            "offset": last.after.offset,
            "lines": last.after.lines,
            "tail_bytes": len(last.payload),
            "read_bytes": begins.size if begins else 0,
            "read_sha256": begins.sha256 if begins else None,
            "accepted": receipt.accepted,
            "duplicates": receipt.duplicates,
            "conflicts": receipt.conflicts,
            "rejected": receipt.rejected,
        }
        if connection.execute(_MOVE_ON, names).rowcount != 1:
            raise OvertakenError(f"{found.path} is being landed by another worker too; it goes on there")

    return write


def end(connection: Connection, found: DroppedFile, version: int, state: str, error: str | None, now: datetime) -> None:
    """Write down how the landing of a version ended: `landed`, `failed`, or still `landing` if it is to be resumed."""
    # A message may quote what no text column takes.
    said = error.replace("\0", "\\0").encode(errors="replace").decode() if error else None
    finished_at = None if state == "landing" else now
    connection.execute(_END, _file(found, version) | {"state": state, "error": said, "finished_at": finished_at})


def reports(
    connection: Connection, tenant: str | None = None, paths: Sequence[str] | None = None, limit: int | None = None
) -> list[dict[str, object]]:
    """What became of each file, the newest first: its newest version alone."""
    with connection.cursor(row_factory=dict_row) as cursor:
        names = {"tenant": tenant, "paths": None if paths is None else list(paths), "limit": limit}
        return cursor.execute(_REPORTS, names).fetchall()


def _file(found: DroppedFile, version: int) -> dict[str, object]:
    return {
        "tenant_id": found.tenant_id,
        "path": found.path,
        "version": version,
        "kind": found.kind,
        "size": found.size,
        "mark": found.mark,
    }
