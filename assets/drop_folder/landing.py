"""Landing what lies ready in the drop folder: batch by batch, each with its checkpoint in its own transaction.

Belongs here: where a file's landing begins, goes on and ends. Does not belong here: which files are ready.
"""

import gzip
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, cast

import psycopg

from assets.drop_folder.folder import DropFolder, DroppedFile
from assets.drop_folder.ledger import Known, OvertakenError, begin, end, known_files, moving_on, only_worker, reports
from assets.drop_folder.looking import Ready
from assets.drop_folder.read_along import Beginning, ReadAlong, begins_so
from assets.evaluations.files import lines_of
from assets.evaluations.landing import InTransaction
from assets.evaluations.push import land_lines
from assets.evaluations.verdicts import BEGINNING, Line, Place
from storage.clock import Clock
from storage.database import Connection
from storage.errors import DatabaseUnavailableError, UsageError

DOOR = "drop_folder"
_LONGEST_LINE_END = 8
_NO_MAP_HERE = " Files of the drop folder have no --map: name the columns so in the file, or push it by hand."

OnBatch = Callable[[DroppedFile, int, Place], None]


@dataclass(frozen=True, slots=True)
class Landed:
    """What became of the files that were ready.

    Attributes:
        files: a report a file, of its newest version, as `tidemark drop list` shows it.
        interrupted: the files whose folder failed meanwhile, each with the reason; they go on at the next time.
    """

    files: tuple[dict[str, object], ...]
    interrupted: tuple[str, ...]

    def total(self, count: str) -> int:
        """The sum of a count over the files."""
        return sum(int(str(file[count])) for file in self.files)

    @property
    def failed(self) -> int:
        """How many files can't land as they are."""
        return sum(file["state"] == "failed" for file in self.files)


def land_ready(
    connection: Connection,
    folder: DropFolder,
    ready: Sequence[Ready],
    clock: Clock,
    on_batch: OnBatch = lambda _file, _records, _place: None,
) -> Landed:
    """Land files one after the other; what is wrong with one keeps no other from landing.

    Args:
        connection: in autocommit mode.
        folder: where they lie.
        ready: which; a file that another worker is at is left to it.
        clock: the server's time.
        on_batch: told, after each commit, the file, how many of its records were judged now, and where it goes on.

    Raises:
        psycopg.Error: PostgreSQL is away. Calling it again goes on where this stopped.
    """
    interrupted = []
    for item in ready:
        with only_worker(connection, item.file.path) as alone:
            if alone and (reason := _land(connection, folder, item, clock, on_batch)):
                interrupted.append(f"{item.file.path}: {reason}")
    files = reports(connection, paths=[item.file.path for item in ready])
    return Landed(tuple(files), tuple(interrupted))


def _land(connection: Connection, folder: DropFolder, item: Ready, clock: Clock, on_batch: OnBatch) -> str | None:
    """Land one file; returns why it has to be tried again as it is, if it has."""
    file = item.file
    known = next(iter(known_files(connection, [file.tenant_id], file.path)), None)
    if known is not None and known.mark == file.mark and known.state in ("landed", "failed"):
        return None
    version, start = _where(folder, file, known)
    begin(connection, file, version, start, clock.now())
    checkpoints = _Checkpoints(folder, file, version, start)
    ended, error, again = "landed", None, None
    try:
        lines = lines_of(file.path, checkpoints.open, file.kind, file.file_format, {}, start)
        if not item.settled:
            lines = _without_unfinished(folder, file, lines)
        judged = 0
        for receipt in land_lines(
            connection,
            file.tenant_id,
            file.kind,
            lines,
            clock=clock,
            door=DOOR,
            source=file.path,
            with_batch=checkpoints.of,
        ):
            judged += receipt.accepted + receipt.duplicates + len(receipt.problems)
            on_batch(file, judged, checkpoints.place)
    except (psycopg.Error, DatabaseUnavailableError):
        raise
    except OvertakenError:
        return None
    # Whatever a reader trips over is its file's own affair, be it an error of a library that nobody has seen before.
    except Exception as reason:
        ended, error = "failed", _said(reason)
        if not folder.is_local and _may_pass(reason):
            ended, again = "landing", error
    end(connection, file, version, ended, error, clock.now())
    return again


class _Checkpoints:
    """Where each batch of a file begins and ends, as they come one after the other."""

    def __init__(self, folder: DropFolder, file: DroppedFile, version: int, start: Place) -> None:
        self._folder = folder
        self._file = file
        self._version = version
        self._read: ReadAlong | None = None
        self.place = start

    def open(self) -> BinaryIO:
        opened = self._folder.open(self._file.path)
        if not self._file.grows:
            return opened
        self._read = ReadAlong(opened)
        return cast(BinaryIO, self._read)

    def of(self, batch: Sequence[Line]) -> InTransaction:
        last = batch[-1]
        write = moving_on(self._file, self._version, self.place, last, self._read.beginning if self._read else None)
        self.place = last.after
        return write


def _where(folder: DropFolder, file: DroppedFile, known: Known | None) -> tuple[int, Place]:
    """The version that the file's content is, and the place where to go on."""
    if known is None:
        return 1, BEGINNING
    if known.read_mark in (None, file.mark):
        return known.version, known.place
    if file.grows and file.size > known.read_size and (place := _place_in_grown(folder, file, known)):
        return known.version, place
    return known.version + 1, BEGINNING


def _place_in_grown(folder: DropFolder, file: DroppedFile, known: Known) -> Place | None:
    """Where to go on in a file that has grown; None if what was read of it is not what it begins with."""
    offset, lines = known.place
    if known.read_sha256 is None or file.size < offset:
        return None
    window = min(offset, known.tail_bytes + _LONGEST_LINE_END)
    try:
        if not begins_so(partial(folder.open, file.path), Beginning(known.read_bytes, known.read_sha256)):
            return None
        with folder.open(file.path) as opened:
            opened.seek(offset - window)
            before, behind = opened.read(window), opened.read(2)
    except OSError:
        return None  # who reads it from the beginning will find out why, and say so
    tail = before.rstrip(b"\r\n")[-known.tail_bytes :]
    if before != before.rstrip(b"\r\n"):
        return Place(offset, lines)
    if behind.startswith((b"\n", b"\r\n")):
        return Place(offset + behind.index(b"\n") + 1, lines)
    # It was taken for the last line, and was but the beginning of one.
    return Place(offset - known.tail_bytes, lines - tail.count(b"\n") - 1)


def _without_unfinished(folder: DropFolder, file: DroppedFile, lines: Iterator[Line]) -> Iterator[Line]:
    """The lines without a last one that has no end yet."""
    held: Line | None = None
    for line in lines:
        if held is not None:
            yield held
        held = line
    if held is not None:
        with folder.open(file.path) as opened:
            opened.seek(held.after.offset - 1)
            if opened.read(1) == b"\n":
                yield held


def _may_pass(reason: Exception) -> bool:
    """Whether a store that is not on this machine may answer otherwise at another time."""
    if isinstance(reason, UsageError):
        cause = reason.__cause__
        lasting = isinstance(cause, FileNotFoundError | PermissionError | gzip.BadGzipFile)
        return isinstance(cause, OSError) and not lasting
    # The errors of a store's own library are none of the language's.
    return not isinstance(reason, ArithmeticError | AssertionError | LookupError | TypeError | ValueError)


def _said(reason: Exception) -> str:
    if not isinstance(reason, UsageError):
        return f"{type(reason).__name__}: {reason}"
    return f"{reason}{_NO_MAP_HERE}" if "--map" in str(reason) else str(reason)
