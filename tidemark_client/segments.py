"""One file of a spool: records framed by length and CRC, so that what a crash tore is told from what is whole.

A file starts with eight bytes that name its format; a frame is the payload's length and a CRC-32 over that length and
the payload (little-endian, 32 bits each), then the payload.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

MAGIC = b"TMSPOOL1"
SUFFIX = ".segment"

_HEADER = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
FRAME_OVERHEAD = _HEADER.size


@dataclass
class Segment:
    """A file of frames.

    Attributes:
        number: its place among the files, also its name.
        path: the file.
        end: the offset after its last whole frame.
        torn: whether there is more behind that, which can't be read.
    """

    number: int
    path: Path
    end: int = len(MAGIC)
    torn: bool = False

    @classmethod
    def at(cls, folder: Path, number: int) -> "Segment":
        """The segment of that number, which may not exist yet."""
        return cls(number, folder / f"{number:020d}{SUFFIX}")

    @property
    def first(self) -> int:
        """The offset of its first frame."""
        return len(MAGIC)


def frame(payload: bytes) -> bytes:
    """A payload as it is written."""
    return _HEADER.pack(len(payload), _checksum(payload)) + payload


def frames(segment: Segment, offset: int, end: int | None) -> Iterator[tuple[bytes, int]]:
    """Payloads from an offset on, each with the offset after its frame; ends before the first that isn't whole.

    Args:
        segment: the file.
        offset: of a frame.
        end: where to stop reading; the file's end if None.
    """
    with segment.path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return
        file.seek(offset)
        data = file.read() if end is None else file.read(end - offset)
    at = 0
    while at + _HEADER.size <= len(data):
        length, checksum = _HEADER.unpack_from(data, at)
        payload = data[at + _HEADER.size : at + _HEADER.size + length]
        if len(payload) != length or _checksum(payload) != checksum:
            return
        at += _HEADER.size + length
        yield payload, offset + at


class SegmentWriter:
    """Appends frames to a new segment."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._file = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._dirty = True
        try:
            self._write(MAGIC, 0)
        except OSError:
            # Else the name would stay taken, and no record would be taken after the disk has room again.
            os.close(self._file)
            segment.path.unlink()
            raise

    def append(self, framed: bytes) -> None:
        """Write a frame; on return it is the operating system's, so that the process may die.

        Raises:
            OSError: the disk is full or broken; nothing of the frame stays.
        """
        self._write(framed, self.segment.end)
        self.segment.end += len(framed)
        self._dirty = True

    def sync(self) -> None:
        """Make what was written survive a loss of power."""
        if self._dirty:
            os.fsync(self._file)
            self._dirty = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, data: bytes, offset: int) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            # Else the next frame would stand behind half a frame, where no reader gets to.
            os.ftruncate(self._file, offset)
            raise


def _checksum(payload: bytes) -> int:
    # The length too, so that a run of zeros, which a loss of power leaves behind, is no empty frame.
    return crc32(payload, crc32(_LENGTH.pack(len(payload))))
