"""Parquet files as lines: a row has no bytes of its own, so its JSON form stands for them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from assets.evaluations.columns import COUNTS, fields_of_columns, record_of_row, whole
from assets.evaluations.contract import Refused
from assets.evaluations.verdicts import Kind, Line
from storage.errors import UsageError

_ROWS_AT_ONCE = 2_000
_NO_JSON = (ValueError, TypeError, ArithmeticError, LookupError, RecursionError)


def read_parquet(path: Path, kind: Kind, mapping: Mapping[str, str]) -> Iterator[Line]:
    """The rows of a Parquet file, read a slice at a time.

    A cell that has no form in JSON (bytes that aren't UTF-8, a time beyond the calendar) costs its own row alone.

    Raises:
        UsageError: it is no Parquet file, is damaged, or its columns don't make records.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = list(file.schema_arrow.names)
            fields = fields_of_columns(path, kind, columns, mapping)
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                for row in range(batch.num_rows):
                    number += 1
                    yield _line(number, fields, [batch.column(index)[row] for index in range(len(columns))])
    except pyarrow.ArrowException as error:
        raise UsageError(
            f"{path} is no readable Parquet file: {error}. Write it again, or send CSV or NDJSON."
        ) from error


def _line(number: int, fields: Sequence[str | None], scalars: Sequence[Any]) -> Line:
    try:
        cells = [_cell(field, scalar) for field, scalar in zip(fields, scalars, strict=True)]
        return Line(number, json.dumps(record_of_row(fields, cells), ensure_ascii=False, default=_plain).encode())
    except _NO_JSON as error:
        shown = {field: _shown(scalar) for field, scalar in zip(fields, scalars, strict=True) if field}
        refused = Refused(None, "parquet_value", f"has a value without a form in JSON: {error}")
        return Line(number, json.dumps(shown).encode(), refused=refused)


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
