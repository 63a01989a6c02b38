"""Files of three formats land the same records, and what is wrong with one is said by line and column."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.evaluations.contract import EVALUATION, parse
from assets.evaluations.files import Format, read_lines
from assets.evaluations.push import PushReport, push_file
from assets.evaluations.verdicts import Line
from storage.clock import Clock
from storage.database import Connection
from storage.errors import UsageError

RECORDS = [
    {
        "record_id": f"r-{number}",
        "template": 'invoice, "big"',
        "extractor_vendor": "acme-ai",
        "extractor_model": "reader\n2",
        "drift_score": number / 10,
        "created_at": "2026-05-01T00:00:00+00:00",
        "success": number % 2 == 0,
        "features": {"pages": number, "scanned": True, "language": "de"},
        "eligible_extractors": ["acme-ai/reader\n2", "v/a|b, c"],
        "cost_usd": number / 100,
    }
    for number in range(1, 6)
]


def _flat(record: dict[str, object]) -> dict[str, object]:
    features = record["features"]
    assert isinstance(features, dict)
    rest = {name: value for name, value in record.items() if name != "features"}
    rest["eligible_extractors"] = json.dumps(rest["eligible_extractors"])
    return rest | {f"features.{name}": value for name, value in features.items()}


def _write(tmp_path: Path, file_format: Format) -> Path:
    path = tmp_path / f"records.{file_format}"
    if file_format is Format.NDJSON:
        path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(item).encode() for item in RECORDS) + b"\n\n")
    elif file_format is Format.CSV:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(_flat(RECORDS[0])))
            writer.writeheader()
            writer.writerows(_flat(item) for item in RECORDS)
    else:
        pd.DataFrame(RECORDS).assign(created_at=pd.Timestamp("2026-05-01", tz="UTC")).to_parquet(path)
    return path


def _push(connection: Connection, tenant: str, path: Path, **mapping: str) -> PushReport:
    return push_file(connection, tenant, "evaluations", path, clock=Clock(), mapping=mapping)


def test_the_three_formats_carry_the_same_records(connection: Connection, tenant: str, tmp_path: Path) -> None:
    reports = [_push(connection, tenant, _write(tmp_path, file_format)) for file_format in Format]
    assert [(report.accepted, report.duplicates, report.problems) for report in reports] == [
        (5, 0, []),
        (0, 5, []),
        (0, 5, []),
    ]


def _csv(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "rows.csv"
    header = "record_id,template,extractor_vendor,extractor_model,drift_score,created_at"
    path.write_bytes("\n".join([header, *rows]).encode("utf-8", "surrogateescape"))
    return path


def _good(number: int) -> str:
    return f"r-{number},invoice,v,m,0.{number},2026-05-01T00:00:00Z"


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ("r-2,invoice,v,m,0.2", "csv_row"),
        ('r-2,"never closed,v,m,0.2,2026-05-01T00:00:00Z', "csv_row"),
        ("r-2,invoice,v,m,zero,2026-05-01T00:00:00Z", "float_type"),
        ("r-2,invoice,v,m,true,2026-05-01T00:00:00Z", "float_type"),
        ("r-2,invoice,v,m,NaN,2026-05-01T00:00:00Z", "finite_number"),
        ("r-2,\udcff,v,m,0.2,2026-05-01T00:00:00Z", "encoding"),
        ("r-2,in\x00voice,v,m,0.2,2026-05-01T00:00:00Z", "nul_character"),
    ],
)
def test_a_broken_csv_row_is_one_dead_letter_with_its_own_bytes(
    broken: str, code: str, connection: Connection, tenant: str, tmp_path: Path
) -> None:
    report = _push(connection, tenant, _csv(tmp_path, _good(1), broken, _good(3), _good(4)))
    assert (report.accepted, report.rejected) == (3, 1)
    kept = connection.execute("select line, code, payload from raw.rejected_records").fetchall()
    assert kept == [(3, code, broken.encode("utf-8", "surrogateescape"))]


def test_columns_are_mapped_to_fields_and_features_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("when,kind,who,model,drift,pages,notes\n2026-05-01T00:00:00Z,invoice,v,m,0.5,3,hello\n")
    mapping = {
        "when": "created_at",
        "kind": "template",
        "who": "extractor_vendor",
        "model": "extractor_model",
        "drift": "drift_score",
        "pages": "features.pages",
        "notes": "",
    }
    (line,) = read_lines(path, "evaluations", None, mapping)
    assert isinstance(line, Line)
    record = parse(EVALUATION, line.record or b"", datetime(2026, 6, 1, tzinfo=UTC))
    assert (record["template"], record["drift_score"], record["features"]) == ("invoice", 0.5, {"pages": 3})


@pytest.mark.parametrize(
    ("name", "content", "mapping", "message"),
    [
        ("absent.csv", None, {}, "does not exist"),
        ("empty.ndjson", b"", {}, "holds no record"),
        ("blank.ndjson", b"\n \n", {}, "holds no record"),
        ("empty.csv", b"", {}, "is empty: a CSV file starts with a line of column names"),
        ("odd.txt", b"x", {}, "--format"),
        ("broken.parquet", b"PAR1 not really", {}, "is no readable Parquet file"),
        ("few.csv", b"template,drift_score\n", {}, "no column created_at, extractor_model, extractor_vendor.*--map"),
        ("wild.csv", b"template,colour\n", {}, "colour: no field.*--map colour=features.colour.*--map colour="),
        ("some.csv", b"template\n", {"kind": "template"}, "no column kind, which --map names"),
        ("unnamed.csv", b",template\n0,invoice\n", {}, r"column 1 has no name.*index=False"),
        ("wide.csv", "template,created_at\n".encode("utf-16"), {}, "save it as CSV UTF-8"),
        ("latin.csv", "vorl\u00e4ge,created_at\n".encode("latin-1"), {}, "save it as CSV UTF-8"),
        ("german.csv", b"template;created_at\n", {}, "save it with commas"),
        ("twice.csv", b"template,kind\n", {"kind": "template"}, "more than one column stands for template"),
        ("some.ndjson", b"{}", {"kind": "template"}, "--map is for the columns of CSV and Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_says_why_and_what_to_do(
    name: str, content: bytes | None, mapping: dict[str, str], message: str,
    connection: Connection, tenant: str, tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        _push(connection, tenant, path, **mapping)
    assert connection.execute("select count(*) from raw.ingest_batches").fetchone() == (0,)


def test_a_null_in_parquet_is_missing_and_a_nan_is_refused(connection: Connection, tenant: str, tmp_path: Path) -> None:
    columns = {
        "template": ["a", "b"],
        "extractor_vendor": ["v", "v"],
        "extractor_model": ["m", "m"],
        "reliability_score": [0.5, 0.5],
        "drift_score": [None, float("nan")],
        "created_at": ["2026-05-01T00:00:00Z"] * 2,
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    report = _push(connection, tenant, tmp_path / "x.parquet")
    assert (report.accepted, [problem.code for problem in report.problems]) == (1, ["finite_number"])


def test_a_csv_with_a_byte_order_mark_before_a_quoted_header_is_read(
    connection: Connection, tenant: str, tmp_path: Path
) -> None:
    header = '"record_id","template","extractor_vendor","extractor_model","drift_score","created_at","features"'
    deep = '"r-2","invoice","v","m","0.1","2026-05-01T00:00:00Z","' + "[" * 100_000 + '"'
    path = tmp_path / "quoted.csv"
    path.write_text("\ufeff" + header + '\n"r-1","invoice","v","m","0.1","2026-05-01T00:00:00Z",""\n' + deep)
    report = _push(connection, tenant, path)
    assert (report.accepted, [problem.field for problem in report.problems]) == (1, ["features"])


def test_a_parquet_value_without_a_form_in_json_costs_its_own_row_alone(
    connection: Connection, tenant: str, tmp_path: Path
) -> None:
    good = [1_777_593_600_000] * 2
    columns = {
        "template": pa.array([b"invoice", b"invoice", b"\xff\x00"], pa.binary()),
        "extractor_vendor": ["v"] * 3,
        "extractor_model": ["m"] * 3,
        "drift_score": [0.1] * 3,
        "fields_correct": [3.0, None, 1.0],
        "fields_total": [4.0, None, 4.0],
        "created_at": pa.array([good[0], 2**61, good[1]], pa.timestamp("ms", "UTC")),
    }
    pq.write_table(pa.table(columns), tmp_path / "odd.parquet")
    report = _push(connection, tenant, tmp_path / "odd.parquet")
    assert (report.accepted, [problem.code for problem in report.problems]) == (1, ["parquet_value"] * 2)
    assert connection.execute("select template from raw.evaluations").fetchall() == [("invoice",)]
    assert connection.execute("select fields_correct, fields_total from raw.feedback").fetchall() == [(3, 4)]
    assert connection.execute("select count(*) from raw.rejected_records").fetchone() == (2,)


def test_what_stops_a_push_is_raised_and_what_was_committed_before_stays(
    connection: Connection, tenant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assets.evaluations.push.MOST_LINES_A_BATCH", 2)
    path = _write(tmp_path, Format.NDJSON)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        _push(connection, "nobody", path)
    told = []
    connection.execute(
        """create function raw.stop() returns trigger language plpgsql as
           $$ begin if (select count(*) from raw.ingest_batches) = 1 then raise 'no more'; end if; return new; end $$"""
    )
    connection.execute(
        "create trigger stop before insert on raw.ingest_batches for each row execute function raw.stop()"
    )
    with pytest.raises(psycopg.errors.RaiseException, match="no more"):
        push_file(
            connection, tenant, "evaluations", path, clock=Clock(), on_batch=lambda report: told.append(report.accepted)
        )
    assert told == [2]
    assert connection.execute("select count(*) from raw.evaluations").fetchone() == (2,)
    connection.execute("drop trigger stop on raw.ingest_batches")
    assert (_push(connection, tenant, path).accepted, connection.info.transaction_status.name) == (3, "IDLE")
