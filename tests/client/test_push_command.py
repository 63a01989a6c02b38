"""`tidemark push --url`: a file through the client; the report names the file's own lines."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner
from unruly_door import KEY, Door, unruly_door

from orchestration.cli import app
from orchestration.remote_push import push_file_to
from storage.errors import TidemarkError, UsageError
from storage.settings import PROJECT_ROOT
from tidemark_client import Client


@pytest.fixture
def door() -> Iterator[Door]:
    with unruly_door() as door:
        yield door


def test_a_file_is_sent_under_the_key_of_the_environment_and_its_rejects_are_told(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.ndjson"
    path.write_bytes(b'{"template": "a"}\r\n\n{"template": ""}\nno \xff json\n{"template": "b"}')
    told = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", "push", str(path), "--url", door.url],
        cwd=PROJECT_ROOT,
        env=os.environ | {"TIDEMARK_API_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (told.returncode, told.stderr.strip()) == (1, "")
    assert "2 accepted, 0 duplicates, 0 conflicts, 2 rejected" in told.stdout
    assert "line 3: rejected: template: must not be empty" in told.stdout
    assert "line 4: rejected" in told.stdout

    monkeypatch.setenv("OTHER", KEY)
    again = CliRunner().invoke(app, ["push", str(path), "--url", door.url, "--key-env", "OTHER", "--json"])
    (report,) = json.loads(again.stdout)
    assert (again.exit_code, report["duplicates"]) == (1, 2)
    assert [error["line"] for error in report["errors"]] == [3, 4]

    door.script = ["429 month"]
    full = CliRunner().invoke(app, ["push", str(path), "--url", door.url, "--key-env", "OTHER"])
    assert "the month is full" in str(full.exception)
    door.script = ["503"]
    waited = CliRunner().invoke(app, ["push", str(path), "--url", door.url, "--key-env", "OTHER"])
    assert "tidemark: trying on for up to 300 s: the server answered 503" in waited.stderr

    monkeypatch.setenv("OTHER", "tm_live_secret")
    refused = CliRunner().invoke(app, ["push", str(path), "--url", door.url, "--key-env", "OTHER"])
    assert isinstance(refused.exception, TidemarkError)
    assert "tidemark key create" in str(refused.exception)
    assert "tm_live_secret" not in str(refused.exception)


@pytest.mark.parametrize(
    ("arguments", "key", "message"),
    [
        (("--url", "http://127.0.0.1:1"), "", "set TIDEMARK_API_KEY"),
        (("--url", "ftp://127.0.0.1"), KEY, "url must start with http"),
        (("--url", "http://127.0.0.1:1", "--tenant", "acme"), KEY, "either --tenant"),
        ((), KEY, "either --tenant"),
    ],
)
def test_wrong_use_names_the_remedy(
    arguments: tuple[str, ...], key: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_API_KEY", key)
    result = CliRunner().invoke(app, ["push", "examples/first_records.ndjson", *arguments])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_lines_of_csv_and_parquet_are_named_as_the_file_has_them_over_many_requests(door: Door, tmp_path: Path) -> None:
    rows = [("" if number % 7 == 3 else "invoice", f"r-{number}") for number in range(50)]
    table = tmp_path / "records.csv"
    # Rows of two lines, a blank line and a row of too few cells: a line's number is no record's place.
    rest = {"extractor_vendor": "v", "extractor_model": "m", "created_at": "2026-05-01T00:00:00Z"}
    ends = ",".join(rest.values())
    text = [f'"two\nlines",r-x,{ends}', "", "too,few", *(f"{template},{name},{ends}" for template, name in rows)]
    table.write_text(f"template,record_id,{','.join(rest)}\n" + "\n".join(text) + "\n")
    columns = {"template": [template or None for template, _ in rows], "record_id": [name for _, name in rows]}
    columns |= {name: [value] * len(rows) for name, value in rest.items()}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "records.parquet")

    with Client(door.url, KEY, batch_records=8, on_reject=lambda _: None) as client:
        report = push_file_to(client, table)
        parquet = push_file_to(client, tmp_path / "records.parquet")
        bad = [number for number in range(50) if number % 7 == 3]
        assert (report.accepted, report.rejected) == (50 - len(bad) + 1, len(bad) + 1)
        # The header, the row of two lines and the blank one are four lines; the fifth has too few cells.
        assert [problem.line.number for problem in report.problems] == [5, *(6 + number for number in bad)]
        assert (parquet.duplicates, parquet.rejected) == (50 - len(bad), len(bad))
        assert [problem.line.number for problem in parquet.problems] == [number + 1 for number in bad]

    door.script, door.always = ["ok"], "400"
    with (
        Client(door.url, KEY, batch_records=8, on_reject=lambda _: None) as client,
        pytest.raises(TidemarkError, match=r"7 records have landed.*400.*Push the file again"),
    ):
        push_file_to(client, tmp_path / "records.parquet")
