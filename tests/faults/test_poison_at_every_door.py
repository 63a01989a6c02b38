"""Each poison alone among 999 good records, at every door: the 999 land, it is a dead letter, and no answer is 5xx."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from door import problem, serving
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from poison import ODD_BUT_GOOD, POISON, good, line
from poison_events import CAN_NOT_SAY, good_events, poison_events, request_body
from poison_files import CSV_POISON, PARQUET_POISON, csv_file, parquet_file
from typer.testing import CliRunner

from assets.drop_folder.folder import DropFolder
from assets.drop_folder.landing import land_ready
from assets.drop_folder.looking import look
from orchestration.cli import app
from storage.api_keys import create_key
from storage.clock import Clock
from storage.database import Connection, Database
from storage.settings import Settings
from tidemark_client import Client

GOOD = 999
PLACE = 500  # of the poison, from 0
# Filled in with two digits, so that each poison has good ones of its own around it.
_OWN = "@@"
_NUMBERS = [f"{_OWN}-{number}" for number in range(GOOD)]
_BEFORE = b"".join(line(good(number)) + b"\n" for number in _NUMBERS[:PLACE])
_AFTER = b"".join(b"\n" + line(good(number)) for number in _NUMBERS[PLACE:])
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def key(connection: Connection, tenant: str) -> str:
    return create_key(connection, tenant, ["ingest"], now=Clock().now())[1]


@pytest.fixture
def client(database: Database, key: str) -> Iterator[httpx.Client]:
    with serving(database) as client:
        client.headers["X-API-Key"] = key
        yield client


def _own(number: int, content: bytes) -> bytes:
    return content.replace(_OWN.encode(), b"%02d" % number)


def _among_good(number: int, payload: bytes) -> bytes:
    return _own(number, _BEFORE) + payload + _own(number, _AFTER)


def _files(folder: Path) -> list[Path]:
    """A file of NDJSON for each poison."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:02d}.ndjson" for number in range(len(POISON))]
    for number, (path, poison) in enumerate(zip(paths, POISON, strict=True)):
        path.write_bytes(_among_good(number, poison.payload))
    return paths


def _letters(connection: Connection) -> dict[bytes, tuple[Any, ...]]:
    query = "select payload, line, field, code, occurrences from raw.rejected_records where verdict = 'rejected'"
    return {bytes(payload): tuple(rest) for payload, *rest in connection.execute(query)}


def _holds(connection: Connection, names: Mapping[bytes, str], letters: Mapping[str, tuple[Any, ...]]) -> None:
    """All good ones are there, once; of the poison there are these dead letters, by name, and no others."""
    found = _letters(connection)
    assert {names.get(payload, repr(payload[:80])): letter for payload, letter in found.items()} == letters
    assert len(found) == len(names)
    landed = connection.execute("select count(*), count(distinct record_id) from raw.evaluations").fetchone()
    assert landed == (GOOD * len(letters), GOOD * len(letters))


def _lines_hold(connection: Connection, occurrences: int = 1) -> None:
    names = {poison.payload: poison.name for poison in POISON}
    _holds(connection, names, {one.name: (PLACE + 1, one.field, one.code, occurrences) for one in POISON})


def test_there_are_poisons_enough_and_no_two_are_alike() -> None:
    assert len({poison.payload for poison in POISON}) == len({poison.name for poison in POISON}) == len(POISON) >= 40


def test_http(client: httpx.Client, connection: Connection) -> None:
    for number, poison in enumerate(POISON):
        content, headers = _among_good(number, poison.payload), NDJSON
        if number % 2:
            content, headers = gzip.compress(content, 1), NDJSON | {"Content-Encoding": "gzip"}
        answer = client.post("/v1/evaluations", content=content, headers=headers)
        assert answer.status_code == 207, (poison.name, answer.text[:500])
        body = answer.json()
        assert (body["accepted"], body["rejected"]) == (GOOD, 1), poison.name
        [error] = body["errors"]
        assert (error["line"], error["field"], error["code"]) == (PLACE + 1, poison.field, poison.code), poison.name
    # Sent again, all together in another order, each is still the one dead letter that it was.
    for part in (POISON[::-2], POISON[-2::-2]):
        again = client.post("/v1/evaluations", content=b"\n".join(one.payload for one in part), headers=NDJSON)
        assert (again.status_code, again.json()["rejected"]) == (422, len(part))
    _lines_hold(connection, occurrences=2)


def test_http_refuses_a_body_whole_that_is_cut_short_or_of_another_charset(
    client: httpx.Client, connection: Connection
) -> None:
    right = _among_good(0, POISON[0].payload)
    packed = gzip.compress(right, 1)
    wrong_byte = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]
    unpackable = NDJSON | {"Content-Encoding": "gzip"}
    refused: list[tuple[bytes, dict[str, str], int, str]] = [
        (packed[:-4], unpackable, 400, "ends too early"),
        (packed[: len(packed) // 2], unpackable, 400, "ends too early"),
        (wrong_byte, unpackable, 400, "corrupt"),
        (right.decode().encode("utf-16"), {"Content-Type": "application/x-ndjson; charset=utf-16"}, 415, "utf-8"),
        (right, {"Content-Type": "application/x-ndjson; charset=iso-8859-1"}, 415, "utf-8"),
    ]
    for content, headers, status, reason in refused:
        document = problem(client.post("/v1/evaluations", content=content, headers=headers), status)
        assert reason in str(document["detail"])
    assert _letters(connection) == {}
    # The sender has it still: sent as it should be, it lands.
    answer = client.post("/v1/evaluations", content=packed, headers=unpackable)
    assert (answer.status_code, answer.json()["accepted"], answer.json()["rejected"]) == (207, GOOD, 1)


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_otlp(client: httpx.Client, connection: Connection, encoding: str) -> None:
    neighbours, poisons = good_events(encoding, _NUMBERS), poison_events(encoding)
    assert len(poisons) >= 40
    assert {one.name for one in poisons} | CAN_NOT_SAY[encoding].keys() == {poison.name for poison in POISON}
    headers = {"Content-Type": "application/json" if encoding == "json" else "application/x-protobuf"}
    for number, poison in enumerate(poisons):
        events = [_own(number, event) for event in neighbours]
        content = request_body(encoding, [*events[:PLACE], poison.payload, *events[PLACE:]])
        answer = client.post("/v1/logs", content=content, headers=headers)
        assert answer.status_code == 200, (poison.name, answer.text[:500])
        if encoding == "json":
            partial = answer.json()["partialSuccess"]
            rejected, told = int(partial["rejectedLogRecords"]), partial["errorMessage"]
        else:
            success = ExportLogsServiceResponse.FromString(answer.content).partial_success
            rejected, told = success.rejected_log_records, success.error_message
        assert (rejected, told.startswith(f"log record {PLACE + 1}")) == (1, True), (poison.name, told[:300])
    letters = {one.name: (PLACE + 1, one.field, one.code, 1) for one in poisons}
    _holds(connection, {one.payload: one.name for one in poisons}, letters)


def _drop(connection: Connection, folder: Path) -> list[dict[str, object]]:
    drop, clock = DropFolder(str(folder)), Clock()
    seen = look(connection, drop, clock.now(), at_once=True)
    return list(land_ready(connection, drop, seen.ready, clock).files)


def _verdicts(report: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(report[name] for name in ("accepted", "duplicates", "conflicts", "rejected"))


def _command(*arguments: object) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and the report on each file."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    return result.exit_code, json.loads(result.stdout)


def _each_names_its_poison(reports: list[dict[str, Any]]) -> None:
    told = [(error["line"], error["field"], error["code"]) for report in reports for error in report["errors"]]
    assert told == [(PLACE + 1, poison.field, poison.code) for poison in POISON]


def test_the_drop_folder(connection: Connection, tenant: str, tmp_path: Path) -> None:
    _files(tmp_path / tenant)
    reports = _drop(connection, tmp_path)
    assert Counter((report["state"], _verdicts(report)) for report in reports) == {
        ("landed", (GOOD, 0, 0, 1)): len(POISON)
    }
    _lines_hold(connection)


def test_the_command_line(settings: Settings, connection: Connection, tenant: str, tmp_path: Path) -> None:
    code, reports = _command("push", *_files(tmp_path / "files"), "--tenant", tenant)
    assert (code, Counter(map(_verdicts, reports))) == (1, {(GOOD, 0, 0, 1): len(POISON)})
    _each_names_its_poison(reports)
    _lines_hold(connection)


def test_the_client_with_lines_of_files(
    client: httpx.Client, key: str, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_API_KEY", key)
    code, reports = _command("push", *_files(tmp_path / "files"), "--url", client.base_url)
    assert (code, Counter(map(_verdicts, reports))) == (1, {(GOOD, 0, 0, 1): len(POISON)})
    _each_names_its_poison(reports)
    _lines_hold(connection)


# Poison that no mapping of Python can be.
NO_MAPPING = {
    "a NUL written raw": "a mapping has values, and no way to write them",
    "a whole number of 5000 digits": "Python reads none of it",
    "a lone surrogate, raw": "bytes",
    "bytes that are not UTF-8": "bytes",
    "a record in Latin-1": "bytes",
    "a record in UTF-16": "bytes",
    "a gzipped record, cut short": "bytes",
    "a byte order mark within the file": "bytes",
    "100,000 open brackets": "no value",
    "100,000 open objects": "no value",
    "no JSON": "no value",
    "a line cut short": "no value",
    "two records on a line": "no single value",
    "an array": "no mapping",
    "a bare number": "no mapping",
    "a key twice": "a mapping has each key once",
    "a key twice, once null": "a mapping has each key once",
    "a key twice, once escaped": "a mapping has each key once",
    "a feature twice": "a mapping has each key once",
}
# What the client refuses itself, because JSON can't say it: it stays with the sender, who is told.
UNSENT = {
    "NaN": ("drift_score", "not_finite"),
    "Infinity": ("drift_score", "not_finite"),
    "a latency of 1e400": ("latency_ms", "not_finite"),
    "-Infinity": ("score", "not_finite"),
    "1e400": ("drift_score", "not_finite"),
    "1e400 in a feature": ("features.x", "not_finite"),
    "NaN in a feature": ("features.x", "not_finite"),
    "a lone surrogate, escaped": ("template", "encoding"),
    "a lone surrogate in a feature's name": ("features", "encoding"),
    "an embedding with NaN": ("embedding", "not_finite"),
}


def test_the_client_with_mappings(client: httpx.Client, key: str, connection: Connection) -> None:
    poisons = [poison for poison in POISON if poison.name not in NO_MAPPING]
    assert NO_MAPPING.keys() | UNSENT.keys() <= {poison.name for poison in POISON}
    expected = {}
    with Client(str(client.base_url), key, on_reject=lambda _: None) as sending:
        for number, poison in enumerate(poisons):
            records = [good(one.replace(_OWN, f"{number:02d}")) for one in _NUMBERS]
            result = sending.push([*records[:PLACE], json.loads(poison.payload.decode()), *records[PLACE:]])
            assert (result.accepted, result.rejected) == (GOOD, 1), poison.name
            [told] = result.problems
            named = UNSENT.get(poison.name, (poison.field, poison.code))
            assert (told.index, told.field, told.code) == (PLACE, *named), poison.name
            assert (told.batch_id is None) == (poison.name in UNSENT)
            if told.batch_id is not None:
                expected[told.payload] = (PLACE + 1, poison.field, poison.code, 1)
    assert _letters(connection) == expected
    assert connection.execute("select count(*) from raw.evaluations").fetchone() == (GOOD * len(poisons),)


@pytest.mark.parametrize("door", ["drop folder", "command line"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_of_cells(
    door: str, kind: str, settings: Settings, connection: Connection, tenant: str, tmp_path: Path
) -> None:
    folder = tmp_path / "drop" / tenant
    folder.mkdir(parents=True)
    cases = [(column, code) for column, *_, code in (CSV_POISON if kind == "csv" else PARQUET_POISON)]
    written: list[bytes | None] = []
    for number in range(len(cases)):
        records = [good(one.replace(_OWN, f"{number:02d}")) for one in _NUMBERS]
        if kind == "csv":
            column, cell, _ = CSV_POISON[number]
            content, row = csv_file(records, PLACE, column, cell)
            written.append(row)
        else:
            column, value, of_column, _ = PARQUET_POISON[number]
            content = parquet_file(records, PLACE, column, value, of_column)
            written.append(None)
        (folder / f"{number:02d}.{kind}").write_bytes(content)
    if door == "drop folder":
        reports = _drop(connection, folder.parent)
    else:
        code, reports = _command("push", *sorted(folder.iterdir()), "--tenant", tenant)
        assert code == 1
    assert Counter(map(_verdicts, reports)) == {(GOOD, 0, 0, 1): len(cases)}

    letters = connection.execute(
        "select line, field, code, payload from raw.rejected_records inner join raw.ingest_batches using (batch_id)"
        " order by source"
    ).fetchall()
    assert [row[2] for row in letters] == [code for _, code in cases]
    # A header is a line of CSV, and of Parquet none.
    assert {row[0] for row in letters} == {PLACE + (2 if kind == "csv" else 1)}
    for (_, field, code, payload), (column, _), row in zip(letters, cases, written, strict=True):
        assert field is None if code in ("csv_row", "encoding") else True
        assert code in ("csv_row", "encoding", "parquet_value") or field.startswith(column.removesuffix(".x"))
        assert payload == row if row is not None else json.loads(payload)["extractor_vendor"] == "acme-ai"
    landed = connection.execute("select count(*), count(distinct record_id) from raw.evaluations").fetchone()
    assert landed == (GOOD * len(cases), GOOD * len(cases))


def test_a_packed_file_that_is_cut_short_lands_as_far_as_it_goes_and_the_rest_when_it_is_whole(
    settings: Settings, connection: Connection, tenant: str, tmp_path: Path
) -> None:
    path = tmp_path / tenant / "records.ndjson.gz"
    path.parent.mkdir()
    whole = gzip.compress(_among_good(0, POISON[0].payload), 0)
    path.write_bytes(whole[:-20_000])
    [report] = _drop(connection, tmp_path)
    assert (report["state"], "damaged, or cut off" in str(report["error"])) == ("failed", True)
    some = report["accepted"]
    assert isinstance(some, int)
    assert PLACE < some < GOOD
    refused = CliRunner().invoke(app, ["push", str(path), "--tenant", tenant])
    assert "cut off" in str(refused.exception)
    path.write_bytes(whole)
    [report] = _drop(connection, tmp_path)
    assert (report["state"], report["error"]) == ("landed", None)
    assert [letter[:3] for letter in _letters(connection).values()] == [(501, POISON[0].field, POISON[0].code)]
    assert connection.execute("select count(*) from raw.evaluations").fetchone() == (GOOD,)


def test_what_only_looks_like_poison_lands_at_every_door(
    client: httpx.Client, key: str, settings: Settings, connection: Connection, tenant: str, tmp_path: Path
) -> None:
    content = b"\xef\xbb\xbf" + b"\r\n".join([*ODD_BUT_GOOD.values(), b"", b" \t "])
    path = tmp_path / tenant / "odd.ndjson"
    path.parent.mkdir()
    path.write_bytes(content)
    several = len(ODD_BUT_GOOD)
    assert client.post("/v1/evaluations", content=content, headers=NDJSON).json()["accepted"] == several
    again = (0, several, 0, 0)
    assert [_verdicts(report) for report in _drop(connection, tmp_path)] == [again]
    assert [_verdicts(report) for report in _command("push", path, "--tenant", tenant)[1]] == [again]
    with Client(str(client.base_url), key) as sending:
        assert sending.push(ODD_BUT_GOOD.values()).duplicates == several
    assert _letters(connection) == {}
