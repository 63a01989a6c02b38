"""Poison in files of CSV and Parquet: each row alone among good ones.

Belongs here: the cells, what each door should say of them, and files around them. Does not belong here: any door.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from poison import good

COLUMNS = ("record_id", "template", "extractor_vendor", "extractor_model", "drift_score", "created_at")

# Column, cell, code.
CSV_POISON = [
    ("drift_score", b"NaN", "finite_number"),
    ("drift_score", b"Infinity", "finite_number"),
    ("drift_score", b"1e400", "finite_number"),
    ("drift_score", b"1" + b"0" * 5000, "float_type"),
    ("drift_score", b"true", "float_type"),
    ("drift_score", b"0x1", "float_type"),
    ("drift_score", b'"0,5"', "float_type"),
    ("fields_total", b"9999999999", "less_than_equal"),
    ("template", b"", "missing"),
    ("template", b" \xe2\x80\x83", "string_blank"),
    ("template", b"a\x00b", "nul_character"),
    ("template", b"x" * 2_000_000, "string_too_long"),
    ("template", b"\xff", "encoding"),
    ("template", b"\xed\xa0\x80", "encoding"),
    ("created_at", b"0001-01-01T00:00:00Z", "datetime_too_early"),
    ("created_at", b"9999-12-31T23:59:59Z", "datetime_in_future"),
    ("created_at", b"2026-05-01T24:00:00Z", "datetime_format"),
    ("created_at", b"2026-05-01 10:00:00", "datetime_format"),
    ("created_at", b"1780000000", "datetime_format"),
    ("features", b'"{""x"":{""y"":1}}"', "float_type"),
    ("features", b'"{""x"":1,""x"":2}"', "duplicate_key"),
    ("features", b'"{""x"":1e400}"', "finite_number"),
    ("features", b'"{""a\\u0000"":1}"', "nul_character"),
    ("features", b'"{""x"":""' + b"y" * 65_529 + b'""}"', "features_too_large"),
    ("features", b"[" * 100_000, "dict_type"),
    ("features", b"not json", "dict_type"),
    ("features.x", b"1" + b"0" * 30, "number_too_large"),
    ("embedding", b'"[' + b"0," * 382 + b'0]"', "too_short"),
    ("embedding", b'"[' + b"0," * 384 + b'0]"', "too_long"),
    ("embedding", b'"[' + b"0," * 383 + b'NaN]"', "finite_number"),
    ("embedding", b'"[' + b"0," * 383 + b'70000]"', "less_than_equal"),
    ("evaluation_id", b"7", "uuid_parsing"),
    ("propensity", b"0", "greater_than"),
    ("cost_usd", b"-1", "greater_than_equal"),
    ("eligible_extractors", b"acme-ai/reader-2", "list_type"),
    ("eligible_extractors", b'"[""a/b""]"', "extractor_not_eligible"),
    ("decision", b"maybe", "literal_error"),
    ("success", b"yes", "bool_type"),
    ("drift_score", b"0.1,one cell more", "csv_row"),
    ("drift_score", b'"never closed', "csv_row"),
]

# Column, value, the column's type if it is not the value's own, code.
PARQUET_POISON = [
    ("drift_score", float("nan"), None, "finite_number"),
    ("drift_score", float("-inf"), None, "finite_number"),
    ("drift_score", 1.5, None, "less_than_equal"),
    ("template", "", None, "string_too_short"),
    ("template", " ", None, "string_blank"),
    ("template", "a\x00", None, "nul_character"),
    ("template", "x" * 2_000_000, None, "string_too_long"),
    ("template", None, None, "missing"),
    ("template", b"\xff", pa.binary(), "parquet_value"),
    ("record_id", "x" * 201, None, "string_too_long"),
    ("created_at", "2026-05-01T23:59:60Z", None, "datetime_format"),
    ("created_at", -62135596800_000000, pa.timestamp("us", "UTC"), "datetime_too_early"),
    ("created_at", 253402300799_000000, pa.timestamp("us", "UTC"), "datetime_in_future"),
    ("created_at", 2**61, pa.timestamp("us", "UTC"), "parquet_value"),
    ("features", {"x": {"y": 1}}, None, "float_type"),
    ("features", {"x": float("inf")}, None, "finite_number"),
    ("features", [("x", 1.0), ("x", 2.0)], pa.map_(pa.string(), pa.float64()), "dict_type"),
    ("embedding", [0.0] * 383, None, "too_short"),
    ("embedding", [0.0] * 383 + [float("nan")], None, "finite_number"),
    ("embedding", [7e4] * 384, None, "less_than_equal"),
    ("eligible_extractors", ["acme-ai/reader-2", None], pa.list_(pa.string()), "string_type"),
    ("fields_total", 2**31, None, "less_than_equal"),
    ("decision", "maybe", None, "literal_error"),
    ("evaluation_id", "7", None, "uuid_parsing"),
]


def csv_file(records: Sequence[Mapping[str, Any]], place: int, column: str, cell: bytes) -> tuple[bytes, bytes]:
    """A file of these records with a poison row before the one at `place`, and that row as it is written."""
    columns = [*COLUMNS, *([column] if column not in COLUMNS else [])]
    rows = [",".join(str(record.get(name, "")) for name in columns).encode() for record in records]
    own = {name: str(good("poison").get(name, "")).encode() for name in columns} | {column: cell}
    written = b",".join(own[name] for name in columns)
    return b"\r\n".join([",".join(columns).encode(), *rows[:place], written, *rows[place:]]), written


def parquet_file(
    records: Sequence[Mapping[str, Any]], place: int, column: str, value: object, kind: pa.DataType | None
) -> bytes:
    """A file of these records with a poison row before the one at `place`."""
    records = [*records[:place], good("poison"), *records[place:]]
    table = {name: [record[name] for record in records] for name in COLUMNS}
    values = [1_777_593_600_000000 if kind and column == "created_at" else record.get(column) for record in records]
    if kind == pa.binary():
        values = [str(value).encode() for value in values]
    values[place] = value
    file = io.BytesIO()
    pq.write_table(pa.table(table | {column: pa.array(values, kind)}), file)
    return file.getvalue()
