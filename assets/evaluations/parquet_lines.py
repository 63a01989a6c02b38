"""Parquet files as lines: a row has no bytes of its own, so its JSON form stands for them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, BinaryIO

from assets.evaluations.columns import COUNTS, fields_of_columns, record_of_row, whole
from assets.evaluations.contract import Refused
from assets.evaluations.verdicts import Kind, Line, Place
from storage.errors import UsageError

_ROWS_AT_ONCE = 2_000
_NO_JSON = (ValueError, TypeError, ArithmeticError, LookupError, RecursionError)


def read_parquet(name: str, file: BinaryIO, kind: Kind, mapping: Mapping[str, str], start: Place) -> Iterator[Line]:
    """The rows of a Parquet file, read a slice at a time.

    A cell that has no form in JSON (bytes that aren't UTF-8, a time beyond the calendar) costs its own row alone.

    Raises:
        UsageError: it is no Parquet file, is damaged, or its columns don't make records.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            columns = list(parquet.schema_arrow.names)
            fields = fields_of_columns(name, kind, columns, mapping)
            number, groups = _groups_from(parquet.metadata, start.lines)
            for batch in parquet.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=groups):
                for row in range(batch.num_rows):
                    number += 1
                    if number > start.lines:
                        yield _line(number, fields, [batch.column(index)[row] for index in range(len(columns))])
    except pyarrow.ArrowException as error:
        raise UsageError(
            f"{name} is no readable Parquet file: {str(error).rstrip('.')}. Write it again, or send CSV or NDJSON."
        ) from error


def _groups_from(metadata: Any, rows: int) -> tuple[int, list[int]]:
    """The row groups that hold more than the first `rows` rows of a file, and how many rows lie before them."""
    before, group = 0, 0
    while group < metadata.num_row_groups and before + metadata.row_group(group).num_rows <= rows:
        before += metadata.row_group(group).num_rows
        group += 1
    return before, list(range(group, metadata.num_row_groups))


def _line(number: int, fields: Sequence[str | None], scalars: Sequence[Any]) -> Line:
    try:
        cells = [_cell(field, scalar) for field, scalar in zip(fields, scalars, strict=True)]
        record = json.dumps(record_of_row(fields, cells), ensure_ascii=False, default=_plain).encode()
        return Line(number, record, after=Place(number, number))
    except _NO_JSON as error:
        shown = {field: _shown(scalar) for field, scalar in zip(fields, scalars, strict=True) if field}
        refused = Refused(None, "parquet_value", f"has a value without a form in JSON: {error}")
        return Line(number, json.dumps(shown).encode(), refused=refused, after=Place(number, number))


def _shown(scalar: Any) -> str:
    try:
        return str(scalar)
    except _NO_JSON:
        return f"{scalar.type} {getattr(scalar, 'value', '')}"


def _cell(field: str | None, scalar: Any) -> object:
    value = scalar.as_py()
    return whole(value) if field in COUNTS else value


def _plain(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"{type(value).__name__} is not a type of the contract")
