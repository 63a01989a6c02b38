"""Nothing is accepted silently, nobody is taken along: odd files. Each poison at each door is in tests/faults."""

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
from poison import ODD_BUT_GOOD, good, line
from poison_files import COLUMNS

from assets.evaluations.contract import EVALUATION, Refused, parse
from assets.evaluations.push import PushReport, push_file
from storage.clock import Clock
from storage.database import Connection, connect
from storage.postgres_url import PostgresUrl
from storage.tenants import create_tenant

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
GOOD = [good(number) for number in range(50)]
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


def test_what_only_looks_like_poison_lands(poisoned: Connection, new_tenant: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.ndjson"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([*ODD_BUT_GOOD.values(), b"", b" \t "]))
    report = _push(poisoned, new_tenant, path)
    assert (report.accepted, report.problems) == (len(ODD_BUT_GOOD), [])


def test_a_column_of_times_without_zone_is_wrong_in_each_of_its_rows(
    poisoned: Connection, new_tenant: str, tmp_path: Path
) -> None:
    path = tmp_path / "records.parquet"
    table = {name: [record[name] for record in GOOD] for name in COLUMNS}
    times = pa.array([1_777_593_600_000000] * len(GOOD), pa.timestamp("us"))
    pq.write_table(pa.table(table | {"created_at": times}), path)
    assert _push(poisoned, new_tenant, path).rejected == len(GOOD)
    assert {row[1:3] for row in _dead_letters(poisoned, new_tenant)} == {("created_at", "datetime_format")}


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
    path.write_bytes(GOOD_LINES[0] + b"\n[" + b",".join(GOOD_LINES * 200) + b"]")
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
