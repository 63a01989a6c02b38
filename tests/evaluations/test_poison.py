"""Nothing is accepted silently and nobody is taken along: one poison line among 999 good ones is one dead letter."""

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from poison import ODD_BUT_GOOD, POISON, Poison, good, line

from assets.evaluations.contract import EVALUATION, Refused, parse
from assets.evaluations.files import read_lines
from assets.evaluations.landing import land
from assets.evaluations.push import PushReport, push_file
from storage.clock import Clock
from storage.database import Connection, connect
from storage.postgres_url import PostgresUrl
from storage.tenants import create_tenant

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
AMONG = 1000
PLACE = 500  # of the poison, from 0
GOOD = [good(number) for number in range(AMONG - 1)]
GOOD_LINES = [line(record) for record in GOOD]


@pytest.fixture(scope="module")
def poisoned(server: PostgresUrl) -> Iterator[Connection]:
    """One database for all poison; each line gets a tenant of its own."""
    with connect(server.with_database("postgres"), autocommit=True) as admin:
        admin.execute("drop database if exists poisoned with (force)")
        admin.execute("create database poisoned template tidemark_template strategy file_copy")
    with connect(server.with_database("poisoned"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def new_tenant(poisoned: Connection) -> str:
    tenant = f"tenant-{uuid.uuid4().hex}"
    create_tenant(poisoned, tenant)
    return tenant


def _push(connection: Connection, tenant: str, path: Path) -> PushReport:
    return push_file(connection, tenant, "evaluations", path, clock=Clock(lambda: NOW))


def _dead_letters(connection: Connection, tenant: str) -> list[tuple[Any, ...]]:
    columns = "line, field, code, payload, occurrences"
    query = f"select {columns} from raw.rejected_records where tenant_id = %s and verdict = 'rejected'"  # noqa: S608
    return connection.execute(query.encode(), (tenant,)).fetchall()


def _landed(connection: Connection, tenant: str) -> int:
    [[landed]] = connection.execute("select count(*) from raw.evaluations where tenant_id = %s", (tenant,)).fetchall()
    return int(landed)


@pytest.mark.parametrize("poison", POISON, ids=lambda poison: poison.name)
def test_a_poison_line_of_ndjson_is_one_dead_letter(
    poison: Poison, poisoned: Connection, new_tenant: str, tmp_path: Path
) -> None:
    path = tmp_path / "records.ndjson"
    path.write_bytes(b"\n".join([*GOOD_LINES[:PLACE], poison.payload, *GOOD_LINES[PLACE:]]))
    report = _push(poisoned, new_tenant, path)
    again = land(
        poisoned, new_tenant, "evaluations", list(read_lines(path, "evaluations", None, {})), door="test", now=NOW
    )

    assert (report.accepted, report.rejected) == (AMONG - 1, 1)
    assert (again.duplicates, again.rejected) == (AMONG - 1, 1)
    assert _dead_letters(poisoned, new_tenant) == [(PLACE + 1, poison.field, poison.code, poison.payload, 2)]
    assert _landed(poisoned, new_tenant) == AMONG - 1


def test_what_only_looks_like_poison_lands(poisoned: Connection, new_tenant: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.ndjson"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([*ODD_BUT_GOOD.values(), b"", b" \t "]))
    report = _push(poisoned, new_tenant, path)
    assert (report.accepted, report.problems) == (len(ODD_BUT_GOOD), [])


COLUMNS = ("record_id", "template", "extractor_vendor", "extractor_model", "drift_score", "created_at")

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
    ("decision", b"maybe", "literal_error"),
    ("success", b"yes", "bool_type"),
    ("drift_score", b"0.1,one cell more", "csv_row"),
    ("drift_score", b'"never closed', "csv_row"),
]


@pytest.mark.parametrize(
    ("column", "cell", "code"), CSV_POISON, ids=[f"{c}-{cell[:20]!r}" for c, cell, _ in CSV_POISON]
)
def test_a_poison_row_of_csv_is_one_dead_letter(
    column: str, cell: bytes, code: str, poisoned: Connection, new_tenant: str, tmp_path: Path
) -> None:
    columns = [*COLUMNS, *([column] if column not in COLUMNS else [])]
    rows = [",".join(str(record.get(name, "")) for name in columns).encode() for record in GOOD]
    own = {name: str(good("poison").get(name, "")).encode() for name in columns} | {column: cell}
    written = b",".join(own[name] for name in columns)
    path = tmp_path / "records.csv"
    path.write_bytes(b"\r\n".join([",".join(columns).encode(), *rows[:PLACE], written, *rows[PLACE:]]))

    report = _push(poisoned, new_tenant, path)

    assert (report.accepted, report.rejected) == (AMONG - 1, 1)
    [(number, field, found, payload, _)] = _dead_letters(poisoned, new_tenant)
    assert (number, found, payload) == (PLACE + 2, code, written)
    assert field is None if code in ("csv_row", "encoding") else field.startswith(column.removesuffix(".x"))


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
    ("created_at", 1_777_593_600_000000, pa.timestamp("us"), "datetime_format"),
    ("features", {"x": {"y": 1}}, None, "float_type"),
    ("features", {"x": float("inf")}, None, "finite_number"),
    ("features", [("x", 1.0), ("x", 2.0)], pa.map_(pa.string(), pa.float64()), "dict_type"),
    ("embedding", [0.0] * 383, None, "too_short"),
    ("embedding", [0.0] * 383 + [float("nan")], None, "finite_number"),
    ("embedding", [7e4] * 384, None, "less_than_equal"),
    ("fields_total", 2**31, None, "less_than_equal"),
    ("decision", "maybe", None, "literal_error"),
    ("evaluation_id", "7", None, "uuid_parsing"),
]


@pytest.mark.parametrize(
    ("column", "value", "kind", "code"), PARQUET_POISON, ids=[f"{row[0]}-{row[3]}" for row in PARQUET_POISON]
)
def test_a_poison_row_of_parquet_is_one_dead_letter(
    column: str, value: object, kind: pa.DataType | None, code: str,
    poisoned: Connection, new_tenant: str, tmp_path: Path,
) -> None:  # fmt: skip
    records = [*GOOD[:PLACE], good("poison"), *GOOD[PLACE:]]
    table = {name: [record[name] for record in records] for name in COLUMNS}
    values = [1_777_593_600_000000 if kind and column == "created_at" else record.get(column) for record in records]
    if kind == pa.binary():
        values = [str(value).encode() for value in values]
    if kind == pa.timestamp("us"):
        # A column without a time zone is wrong in each of its rows.
        table["created_at"] = values
        pq.write_table(pa.table(table | {column: pa.array(values, kind)}), tmp_path / "records.parquet")
        assert _push(poisoned, new_tenant, tmp_path / "records.parquet").rejected == AMONG
        return
    values[PLACE] = value
    pq.write_table(pa.table(table | {column: pa.array(values, kind)}), tmp_path / "records.parquet")

    report = _push(poisoned, new_tenant, tmp_path / "records.parquet")

    assert (report.accepted, report.rejected) == (AMONG - 1, 1)
    [(number, field, found, payload, _)] = _dead_letters(poisoned, new_tenant)
    assert (number, found) == (PLACE + 1, code)
    assert json.loads(payload)["extractor_vendor"] == "acme-ai"
    assert code == "parquet_value" or field.startswith(column)


def test_a_feature_that_two_columns_say_is_refused(poisoned: Connection, new_tenant: str, tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text(
        f"{','.join(COLUMNS)},features,features.x\n"
        + "".join(f'r-{n},a,v,m,0.1,2026-05-01T00:00:00Z,"{{""{name}"":1}}",2\n' for n, name in enumerate("xy"))
    )
    assert _push(poisoned, new_tenant, path).accepted == 1
    assert [row[1:3] for row in _dead_letters(poisoned, new_tenant)] == [("features.x", "duplicate_key")]


def test_a_line_without_end_is_no_record_and_costs_no_memory(
    poisoned: Connection, new_tenant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assets.evaluations.physical_lines.LONGEST", 1024 * 1024)
    path = tmp_path / "array.ndjson"
    path.write_bytes(GOOD_LINES[0] + b"\n[" + b",".join(GOOD_LINES * 10) + b"]")
    with pytest.raises(Exception, match=r"line 2 is longer than 1 MiB.*jq -c"):
        _push(poisoned, new_tenant, path)


# Duplicate keys, proved.

_names = st.sampled_from(
    ["label", "drift_score", "success", "features", "created_at", "evaluation_id", "decision", "template", "score"]
)
_texts = st.sampled_from(["a", 'q"', "b:\\", "ü", "null", "a\u2028", "a\nb", ':"x":'])
_values: dict[str, st.SearchStrategy[object]] = {
    "label": st.none() | _texts,
    "template": _texts,
    "drift_score": st.none() | st.floats(0, 1),
    "score": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "success": st.none() | st.booleans(),
    "decision": st.none() | st.sampled_from(["accept", "reject"]),
    "created_at": st.sampled_from(["2026-05-01T10:00:00Z", "2026-05-01t10:00:00.5+02:00"]),
    "evaluation_id": st.none() | st.sampled_from(["urn:uuid:0190c3a0-0000-7000-8000-000000000001"]),
}
_features = st.lists(
    st.tuples(st.sampled_from(["x", "y", 'z"', "q:", "ü"]), st.none() | _texts | st.booleans()), max_size=3
)


def _written(pairs: list[tuple[str, object]], escape: Callable[[str], str]) -> str:
    shown = ",".join(
        f"{escape(name)}:{_written(value, escape) if isinstance(value, list) else json.dumps(value)}"
        for name, value in pairs
    )
    return f"{{{shown}}}"


@given(st.data())
def test_no_key_that_is_said_twice_slips_through_and_no_other_record_is_refused(data: st.DataObject) -> None:
    pairs: list[tuple[str, Any]] = [
        (name, value) for name, value in good("1").items() if name not in ("template", "drift_score")
    ] + [("template", "t"), ("drift_score", 0.5)]
    pairs += [
        (name, data.draw(_features if name == "features" else _values[name]))
        for name in data.draw(st.lists(_names, max_size=4))
    ]
    pairs = data.draw(st.permutations(pairs))
    ascii_only = data.draw(st.booleans())
    escaped = data.draw(st.booleans())

    def escape(name: str) -> str:
        text = json.dumps(name, ensure_ascii=ascii_only)
        return f'"\\u{ord(name[0]):04x}{text[2:]}' if escaped and name[0].isalpha() and name[0].isascii() else text

    doubled = [
        *(name for name, _ in pairs),
        *(f"features.{name}" for own, value in pairs if own == "features" for name, _ in value),
    ]
    repeated = {name for name in doubled if doubled.count(name) > 1}
    payload = _written(pairs, escape).encode()
    if not repeated:
        assert parse(EVALUATION, payload, NOW)
        return
    with pytest.raises(Refused) as refused:
        parse(EVALUATION, payload, NOW)
    assert refused.value.code == "duplicate_key"
    assert refused.value.field in repeated
