"""The lines of a text file, none of which may be so long that reading it would cost unbounded memory."""

from collections.abc import Iterator
from typing import BinaryIO

from storage.errors import UsageError

LONGEST = 64 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def physical_lines(name: str, file: BinaryIO, lines_before: int = 0) -> Iterator[bytes]:
    """The lines with their ends, from where the file stands.

    Args:
        name: what the file is called in messages.
        file: opened for reading.
        lines_before: how many lines of it lie before.

    Raises:
        UsageError: a line is longer than 64 MiB, so this is no file of records.
    """
    number = lines_before
    while line := file.readline(LONGEST):
        number += 1
        if len(line) == LONGEST:
            raise UsageError(
                f"{name}: line {number} is longer than {LONGEST // 1024**2} MiB, and a file has one record a line. "
                "A JSON array becomes NDJSON by: jq -c '.[]'"
            )
        yield line


def without_mark(first_line: bytes) -> bytes:
    """A file's first line without the byte order mark that some editors put there."""
    return first_line.removeprefix(_BYTE_ORDER_MARK)
