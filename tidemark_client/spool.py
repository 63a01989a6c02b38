"""A queue on disk, which survives its process: segment files, the position reached, and one owner.

A record that was appended is the operating system's: it survives `kill -9`. What survives a loss of power is what
`fsync` came after: once a second while records come in, at the end of a segment, and at `sync`. The position may lag
behind: what is then read twice is sent twice, and recognized by its record_id.

The files are readable by their user alone. The lock is `flock`'s, which no network file system should be asked for.
"""

import fcntl
import logging
import os
import re
from collections import deque
from pathlib import Path
from time import monotonic

from tidemark_client.errors import QueueFullError, SpoolError
from tidemark_client.segments import FRAME_OVERHEAD, SUFFIX, Segment, SegmentWriter, frame, frames

_LARGEST_SEGMENT = 4 * 1024 * 1024
_SEGMENTS = 8
_SECONDS_UNSYNCED = 1.0
_POSITION = re.compile(r"(\d{1,20}) (\d{1,20})\n")

_log = logging.getLogger("tidemark_client")


class Spool:
    """The queue in a directory of its own."""

    def __init__(self, folder: Path, capacity: int) -> None:
        """Open it, with all that is in it.

        Args:
            folder: made if it is missing.
            capacity: the files' bytes at most.

        Raises:
            SpoolError: another process, or another client of this one, has it; or it can't be used.
        """
        self._folder = folder
        self._capacity = capacity
        self._most_a_segment = min(_LARGEST_SEGMENT, capacity // _SEGMENTS)
        self._segments: deque[Segment] = deque()
        self._writer: SegmentWriter | None = None
        self._offset = 0
        self._peeked: deque[int] = deque()
        self._synced_at = monotonic()
        self.pending = 0
        self.pending_bytes = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            self._take_lock()
            self._load()
        except OSError as error:
            raise self._unusable(error) from error

    def append(self, line: bytes) -> bool:
        """Write a record; False if there is no room.

        Raises:
            QueueFullError: it is larger than the whole spool.
            SpoolError: the disk refused; the record was not taken.
        """
        framed = frame(line)
        needed = len(framed) + FRAME_OVERHEAD
        if needed > self._capacity:
            raise QueueFullError(
                f"the record has {len(line):,} bytes, the spool has room for {self._capacity:,}: raise spool_bytes"
            )
        try:
            if self._used() + needed > self._capacity:
                if self.pending:
                    return False
                self._end_segment()
            if self._writer and self._writer.segment.end + len(framed) > self._most_a_segment:
                self._end_segment()
            self._writing().append(framed)
            if monotonic() - self._synced_at > _SECONDS_UNSYNCED:
                self._sync()
        except OSError as error:
            raise self._unusable(error) from error
        self.pending += 1
        self.pending_bytes += len(line)
        return True

    def peek(self, most_records: int, most_bytes: int) -> list[bytes]:
        """The oldest records, all of one segment; they stay."""
        self._peeked.clear()
        lines: list[bytes] = []
        size = 0
        if not self.pending:
            return lines
        head = self._segments[0]
        try:
            for line, end in frames(head, self._offset, head.end):
                size += len(line) + 1
                if lines and (size > most_bytes or len(lines) >= most_records):
                    break
                lines.append(line)
                self._peeked.append(end)
        except OSError as error:
            raise self._unusable(error) from error
        if not lines:
            raise SpoolError(f"{head.path} was changed from outside: its records can't be read any more")
        return lines

    def advance(self, count: int) -> None:
        """Forget the oldest of those that were peeked last."""
        for _ in range(count):
            end = self._peeked.popleft()
            self.pending -= 1
            self.pending_bytes -= end - self._offset - FRAME_OVERHEAD
            self._offset = end
        try:
            self._drop_finished()
            self._keep_position()
        except OSError as error:
            # It only means that more will be sent again.
            _log.warning("the spool's position can't be written: %s", error)

    def sync(self) -> None:
        """Make every record survive a loss of power."""
        try:
            self._sync()
        except OSError as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Let go of it; the records stay."""
        if self._writer:
            self._end_segment()
        # Closing the last handle ends the lock; the file stays, or two could lock two files of one name.
        os.close(self._lock)

    def abandon(self) -> None:
        """Close a forked child's handles: an explicit unlock would be the parent's too."""
        if self._writer:
            self._writer.close()
            self._writer = None
        os.close(self._lock)

    def _sync(self) -> None:
        if self._writer:
            self._writer.sync()
        self._synced_at = monotonic()

    def _unusable(self, error: OSError) -> SpoolError:
        return SpoolError(f"the spool {self._folder} can't be used: {error.strerror or error}")

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise SpoolError(
                f"the spool {self._folder} is in use by process {owner}: give each client a directory of its own"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _load(self) -> None:
        found = sorted(path for path in self._folder.glob(f"*{SUFFIX}") if path.stem.isdigit())
        number, offset = self._kept_position()
        for path in found:
            segment = Segment(int(path.stem), path)
            # One before the position is gone already, unless the position is wrong: better twice than never.
            starts = offset if segment.number == number else segment.first
            if not self._count(segment, starts) and starts != segment.first:
                # The position is no frame's, after a loss of power: better twice than never.
                starts = segment.first
                self._count(segment, starts)
            if not self._segments:
                self._offset = starts
            self._segments.append(segment)
            self._mark_what_is_torn(segment)
        self._next_number = max([number, *(segment.number for segment in self._segments)]) + 1
        self._drop_finished()

    def _count(self, segment: Segment, starts: int) -> bool:
        """Count the whole frames from there on; False if that is no place where frames start."""
        segment.end = starts
        for line, end in frames(segment, starts, None):
            segment.end = end
            self.pending += 1
            self.pending_bytes += len(line)
        return segment.end > starts or segment.path.stat().st_size == starts

    def _mark_what_is_torn(self, segment: Segment) -> None:
        torn = segment.path.stat().st_size - segment.end
        if torn > 0:
            segment.torn = True
            _log.warning("%s: its last %d bytes are no whole record and can't be sent", segment.path, torn)

    def _kept_position(self) -> tuple[int, int]:
        try:
            found = _POSITION.fullmatch((self._folder / "position").read_text(errors="replace"))
        except FileNotFoundError:
            found = None
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def _keep_position(self) -> None:
        number = self._segments[0].number if self._segments else self._next_number
        fresh = self._folder / "position.new"
        fresh.write_text(f"{number} {self._offset}\n")
        fresh.replace(self._folder / "position")

    def _used(self) -> int:
        return sum(segment.end for segment in self._segments)

    def _writing(self) -> SegmentWriter:
        if self._writer is None:
            segment = Segment.at(self._folder, self._next_number)
            self._writer = SegmentWriter(segment)
            self._next_number += 1
            _sync_folder(self._folder)
            if not self._segments:
                self._offset = segment.first
            self._segments.append(segment)
        return self._writer

    def _end_segment(self) -> None:
        if self._writer:
            self._writer.sync()
            self._writer.close()
            self._writer = None
        self._drop_finished()

    def _drop_finished(self) -> None:
        while self._segments and self._offset >= self._segments[0].end:
            done = self._segments[0]
            if self._writer and self._writer.segment is done:
                return
            if done.torn:
                done.path.replace(done.path.with_suffix(".damaged"))
            else:
                done.path.unlink()
            self._segments.popleft()
            self._offset = self._segments[0].first if self._segments else 0


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
