"""The lines of a text file, none of which may be so long that reading it would cost unbounded memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from storage.errors import UsageError

LONGEST = 64 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def physical_lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """The lines with their ends; a byte order mark at the file's start is left out.

    Raises:
        UsageError: a line is longer than 64 MiB, so this is no file of records.
    """
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        if len(line) == LONGEST:
            raise UsageError(
                f"{path}: line {number} is longer than {LONGEST // 1024**2} MiB, and a file has one record a line. "
                "A JSON array becomes NDJSON by: jq -c '.[]'"
            )
        yield line if number > 1 else line.removeprefix(_BYTE_ORDER_MARK)
