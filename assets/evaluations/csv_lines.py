"""CSV files as lines: each row keeps its own bytes, and a broken one doesn't take its neighbours along."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from assets.evaluations.columns import COUNTS, AsWritten, fields_of_columns, record_of_row, whole
from assets.evaluations.contract import Refused
from assets.evaluations.physical_lines import physical_lines, without_mark
from assets.evaluations.verdicts import BEGINNING, Kind, Line, Place
from storage.errors import UsageError

# A quote that is never closed would swallow the rest of the file: past so many lines it is taken for a mistake.
_MOST_LINES_A_ROW = 1000
_LARGEST_CELL = 16 * 1024 * 1024

_BOOLEANS = {"true": True, "false": False}
_NUMBERS = ("drift_score", "reliability_score", "score", "propensity", "cost_usd", "latency_ms")
_JSON = ("features", "embedding", "eligible_extractors")


class _Tape:
    """A file's physical lines, which remembers those of the row at hand and can be wound back to its second one."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = name
        self._file = file
        self._lines = physical_lines(name, file)
        self._pending: list[bytes] = []
        self.row: list[bytes] = []
        self.before = BEGINNING

    def __iter__(self) -> "Iterator[str]":
        return self

    def __next__(self) -> str:
        if len(self.row) >= _MOST_LINES_A_ROW:
            raise csv.Error(f"a quote is opened and not closed within {_MOST_LINES_A_ROW} lines")
        line = self._pending.pop(0) if self._pending else next(self._lines)
        self.row.append(line)
        text = line if self.before.lines or len(self.row) > 1 else without_mark(line)
        return text.decode("utf-8", "surrogateescape")

    @property
    def after(self) -> Place:
        return Place(self.before.offset + sum(map(len, self.row)), self.before.lines + len(self.row))

    def next_row(self) -> None:
        self.before = self.after
        self.row = []

    def go_on_from(self, start: Place) -> None:
        """Only where nothing has been wound back."""
        self._file.seek(start.offset)
        self._lines = physical_lines(self._name, self._file, start.lines)
        self.before = start

    def rewind_to_second_line(self) -> None:
        self._pending = self.row[1:] + self._pending
        self.row = self.row[:1]


def read_csv(name: str, file: BinaryIO, kind: Kind, mapping: Mapping[str, str], start: Place) -> Iterator[Line]:
    """The rows of a CSV file with a header, UTF-8, comma-separated (RFC 4180).

    Cells are converted where the field is a number, a boolean or JSON; a cell that doesn't convert stays text, so that
    the contract refuses it by the field's name.

    Raises:
        UsageError: there is no header, or its columns don't make records.
    """
    csv.field_size_limit(_LARGEST_CELL)
    tape = _Tape(name, file)
    columns = _header(name, tape)
    fields = fields_of_columns(name, kind, columns, mapping)
    converters = [_converter(field) for field in fields]
    tape.next_row()
    if start > tape.before:
        tape.go_on_from(start)
    while (cells := _next_cells(tape, len(columns))) is not None:
        payload = b"".join(tape.row).rstrip(b"\r\n")
        number = tape.before.lines + 1
        if isinstance(cells, Refused):
            yield Line(number, payload, refused=cells, after=tape.after)
        elif cells:
            converted = [convert(cell) if cell else None for convert, cell in zip(converters, cells, strict=True)]
            yield _line(number, payload, record_of_row(fields, converted), tape.after)
        tape.next_row()


def _header(name: str, tape: _Tape) -> list[str]:
    try:
        columns = next(csv.reader(tape, strict=True))
    except StopIteration:
        columns = []
    except csv.Error as error:
        raise UsageError(f"{name}: its first line is no CSV header: {error}.") from error
    if not any(columns):
        raise UsageError(f"{name} is empty: a CSV file starts with a line of column names.")
    written = b"".join(tape.row)
    if b"\x00" in written or any("\udc80" <= letter <= "\udcff" for column in columns for letter in column):
        raise UsageError(f"{name} is not UTF-8 text: save it as CSV UTF-8.")
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        raise UsageError(f"{name} is not separated by commas: save it with commas between the columns.")
    return columns


def _next_cells(tape: _Tape, width: int) -> list[str] | Refused | None:
    try:
        cells = next(csv.reader(tape, strict=True))
        problem = f"has {len(cells)} cells, the header has {width}" if cells and len(cells) != width else ""
    except StopIteration:
        return None
    except csv.Error as error:
        cells, problem = [], f"is no CSV row: {error}"
    if not problem:
        return cells
    tape.rewind_to_second_line()
    return Refused(None, "csv_row", problem)


def _line(number: int, payload: bytes, record: dict[str, object], after: Place) -> Line:
    try:
        return Line(number, payload, record=json.dumps(record, ensure_ascii=False).encode(), after=after)
    except UnicodeEncodeError:
        refused = Refused(None, "encoding", "is not UTF-8: save the file as UTF-8")
        return Line(number, payload, refused=refused, after=after)


def _converter(field: str | None) -> Callable[[str], object]:
    if field is None:
        return _text
    if field in _NUMBERS:
        return _number
    if field in COUNTS:
        return _count
    if field in _JSON:
        return _json
    if field == "success":
        return _boolean
    return _feature if field.startswith("features.") else _text


def _text(cell: str) -> object:
    return cell


def _number(cell: str) -> object:
    # json's own grammar of numbers: float() would take "1_000", " 1 " and "infinity" too.
    try:
        value = json.loads(cell)
    except ValueError:
        return cell
    return value if isinstance(value, int | float) and not isinstance(value, bool) else cell


def _count(cell: str) -> object:
    return whole(_number(cell))


def _boolean(cell: str) -> object:
    return _BOOLEANS.get(cell.lower(), cell)


def _feature(cell: str) -> object:
    return _BOOLEANS.get(cell.lower(), _number(cell))


def _json(cell: str) -> object:
    try:
        return json.loads(cell, object_pairs_hook=AsWritten.of)
    except (ValueError, RecursionError):
        return cell
