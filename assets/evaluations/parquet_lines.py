"""Parquet files as lines: a row has no bytes of its own, so its JSON form stands for them."""

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

from assets.evaluations.columns import fields_of_columns, record_of_row
from assets.evaluations.verdicts import Kind, Line
from storage.errors import UsageError

_ROWS_AT_ONCE = 2_000


def read_parquet(path: Path, kind: Kind, mapping: Mapping[str, str]) -> Iterator[Line]:
    """The rows of a Parquet file, read a slice at a time.

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
                for row in batch.to_pylist():
                    number += 1
                    record = record_of_row(fields, [row[column] for column in columns])
                    yield Line(number, json.dumps(record, ensure_ascii=False, default=_plain).encode(errors="replace"))
    except pyarrow.ArrowException as error:
        raise UsageError(
            f"{path} is no readable Parquet file: {error}. Write it again, or send CSV or NDJSON."
        ) from error


def _plain(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else str(value)
