"""Files as a source of lines: NDJSON, CSV and Parquet, read as a stream whatever their size.

Belongs here: turning a file's parts into `Line`s, with the bytes as sent kept beside the record that is judged.
Does not belong here: any judgement of a record's content; what can't be converted goes on for the contract to name.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, cast

from assets.evaluations.csv_lines import read_csv
from assets.evaluations.parquet_lines import read_parquet
from assets.evaluations.physical_lines import physical_lines, without_mark
from assets.evaluations.verdicts import BEGINNING, Kind, Line, Place
from storage.errors import UsageError


class Format(StrEnum):
    """The formats that a file may have."""

    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"


_SUFFIXES = {
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".csv": Format.CSV,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}
_GZIP = ".gz"

Reader = Callable[[str, BinaryIO, Kind, Mapping[str, str], Place], Iterator[Line]]


def is_packed(name: str) -> bool:
    """Whether a file of that name is packed with gzip."""
    return name.lower().endswith(_GZIP)


def format_of(name: str) -> Format | None:
    """The format that a file's name tells; None if it tells none that can be read."""
    packed = is_packed(name)
    found = _SUFFIXES.get(Path(name.lower().removesuffix(_GZIP)).suffix)
    return None if packed and found is Format.PARQUET else found


def read_lines(path: Path, kind: Kind, file_format: Format | None, mapping: Mapping[str, str]) -> Iterator[Line]:
    """The file's lines, one at a time.

    Args:
        path: the file; of a text file, gzip's suffix `.gz` may follow that of its format.
        kind: what its records are.
        file_format: by the file's suffix if None.
        mapping: column to field (`features.NAME` for a feature, empty to leave the column out); CSV and Parquet only.

    Raises:
        UsageError: the file can't be read as what it should be; the message names the file and the remedy.
    """
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {what}. Give the path of an NDJSON, CSV or Parquet file.")
    chosen = file_format or format_of(path.name)
    if chosen is None:
        raise UsageError(f"{path}: its suffix doesn't tell its format. Say --format ndjson, csv or parquet.")
    if mapping and chosen is Format.NDJSON:
        raise UsageError("--map is for the columns of CSV and Parquet files; an NDJSON record names its own fields.")
    yield from lines_of(str(path), lambda: path.open("rb"), kind, chosen, mapping)


def lines_of(
    name: str,
    open_file: Callable[[], BinaryIO],
    kind: Kind,
    file_format: Format,
    mapping: Mapping[str, str],
    start: Place = BEGINNING,
) -> Iterator[Line]:
    """The lines of whatever can be opened, from a place on that an earlier reader of it came to (`Line.after`).

    Args:
        name: what it is called, in messages and for its suffix `.gz`.
        open_file: opens it for reading from its beginning, seekable.
        kind: what its records are.
        file_format: what it is.
        mapping: as for `read_lines`.
        start: where to begin.

    Raises:
        UsageError: it can't be read as what it should be, or not to its end.
    """
    try:
        with open_file() as file:
            yield from _READERS[file_format](name, _unpacked(file) if is_packed(name) else file, kind, mapping, start)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{name} is damaged, or cut off: {error}. Pack and send it again.") from error
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror or error}.") from error


def _unpacked(file: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb"))


def _read_ndjson(name: str, file: BinaryIO, _kind: Kind, _mapping: Mapping[str, str], start: Place) -> Iterator[Line]:
    file.seek(start.offset)
    offset, number = start
    for line in physical_lines(name, file, number):
        number += 1
        offset += len(line)
        payload = (line if number > 1 else without_mark(line)).rstrip(b"\r\n")
        if payload and not payload.isspace():
            yield Line(number, payload, after=Place(offset, number))


_READERS: dict[Format, Reader] = {Format.NDJSON: _read_ndjson, Format.CSV: read_csv, Format.PARQUET: read_parquet}
