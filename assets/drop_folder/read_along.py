"""What has been read of a file that may grow: its first bytes' hash, which tells growth from new content.

A file that was written anew looks like one that has grown if it is longer and the place where its landing stopped is as
it was; only all that was read tells. The price is that a file which has grown is read from its beginning, though not
judged: at the speed of SHA-256.
"""

import hashlib
from collections.abc import Callable
from contextlib import closing
from typing import BinaryIO, NamedTuple, Self

_CHUNK = 1024 * 1024


class Beginning(NamedTuple):
    """So many first bytes of a file, and their SHA-256."""

    size: int
    sha256: bytes


def begins_so(open_file: Callable[[], BinaryIO], beginning: Beginning) -> bool:
    """Whether a file has that beginning still."""
    with closing(ReadAlong(open_file())) as file:
        file.seek(beginning.size)
        return file.beginning == beginning


class ReadAlong:
    """A file read by lines that knows what it begins with, up to where it stands."""

    def __init__(self, file: BinaryIO) -> None:
        """Take over a file that stands at its beginning."""
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def beginning(self) -> Beginning:
        """All up to where it stands."""
        return Beginning(self._size, self._digest.digest())

    def readline(self, most: int = -1) -> bytes:
        """The next line, or so much of it."""
        return self._counted(self._file.readline(most))

    def seek(self, offset: int) -> None:
        """Stand so far from the beginning, or at the end of a shorter file."""
        if offset < self._size:
            self._file.seek(0)
            self._digest, self._size = hashlib.sha256(), 0
        while self._size < offset and self._counted(self._file.read(min(_CHUNK, offset - self._size))):
            pass

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _counted(self, read: bytes) -> bytes:
        self._digest.update(read)
        self._size += len(read)
        return read
