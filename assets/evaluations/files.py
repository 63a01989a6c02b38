"""Files as a source of lines: NDJSON, CSV and Parquet, read as a stream whatever their size.

Belongs here: turning a file's parts into `Line`s, with the bytes as sent kept beside the record that is judged.
Does not belong here: any judgement of a record's content; what can't be converted goes on for the contract to name.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path

from assets.evaluations.csv_lines import read_csv
from assets.evaluations.parquet_lines import read_parquet
from assets.evaluations.physical_lines import physical_lines
from assets.evaluations.verdicts import Kind, Line
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

Reader = Callable[[Path, Kind, Mapping[str, str]], Iterator[Line]]


def read_lines(path: Path, kind: Kind, file_format: Format | None, mapping: Mapping[str, str]) -> Iterator[Line]:
    """The file's lines, one at a time.

    Args:
        path: the file.
        kind: what its records are.
        file_format: by the file's suffix if None.
        mapping: column to field (`features.NAME` for a feature, empty to leave the column out); CSV and Parquet only.

    Raises:
        UsageError: the file can't be read as what it should be; the message names the file and the remedy.
    """
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {what}. Give the path of an NDJSON, CSV or Parquet file.")
    chosen = file_format or _SUFFIXES.get(path.suffix.lower())
    if chosen is None:
        raise UsageError(f"{path}: its suffix doesn't tell its format. Say --format ndjson, csv or parquet.")
    if mapping and chosen is Format.NDJSON:
        raise UsageError("--map is for the columns of CSV and Parquet files; an NDJSON record names its own fields.")
    readers: dict[Format, Reader] = {Format.NDJSON: _read_ndjson, Format.CSV: read_csv, Format.PARQUET: read_parquet}
    try:
        yield from readers[chosen](path, kind, mapping)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}.") from error


def _read_ndjson(path: Path, _kind: Kind, _mapping: Mapping[str, str]) -> Iterator[Line]:
    with path.open("rb") as file:
        for number, line in enumerate(physical_lines(path, file), start=1):
            payload = line.rstrip(b"\r\n")
            if payload and not payload.isspace():
                yield Line(number, payload)
