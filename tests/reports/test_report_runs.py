"""Reports by command and by schedule: the same bytes everywhere, a file for each tenant, no run in another's way."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from report_marts import AS_OF, fill_marts, make_marts

from assets.reports.assets import CHECK, definitions, tenant_reports
from orchestration.jobs import BUILDS_MARTS, REPORTS_JOB, nightly_job, refresh_job, weekly_reports
from orchestration.partitions import DAYS
from storage.database import Connection, Database
from storage.settings import PROJECT_ROOT, Settings
from storage.tenants import create_tenant


def _tidemark(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestration.cli", "report", *arguments],
        cwd=PROJECT_ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("suffix", [".html", ".pdf"])
def test_the_same_marts_give_the_same_bytes_whatever_the_process_is_set_to(
    suffix: str, settings: Settings, connection: Connection, tmp_path: Path
) -> None:
    make_marts(connection)
    fill_marts(connection, "acme", ["invoice", "מסמך", "receipt"])
    own_style = tmp_path / "matplotlibrc"
    own_style.write_text("font.size: 20\naxes.grid: True\nsavefig.dpi: 300\nsvg.fonttype: path\ntimezone: Asia/Tokyo\n")
    first = _tidemark("--tenant", "acme", "--out", str(tmp_path / f"a{suffix}"), "--json", PYTHONHASHSEED="1", TZ="UTC")
    second = _tidemark(
        *("--tenant", "acme", "--out", str(tmp_path / f"b{suffix}"), "--json"),
        **{"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "LC_ALL": "C", "MATPLOTLIBRC": str(own_style)},
        **{"SOURCE_DATE_EPOCH": "1", "PGTZ": "Asia/Tokyo"},
    )
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    told, again = json.loads(first.stdout), json.loads(second.stdout)
    assert told["as_of"] == AS_OF.isoformat()
    assert told["sha256"] == again["sha256"]
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert told["bytes"] == (tmp_path / f"a{suffix}").stat().st_size


def test_wrong_use_is_answered_with_the_remedy_and_no_traceback(
    settings: Settings, connection: Connection, tmp_path: Path
) -> None:
    create_tenant(connection, "acme")
    suffix = _tidemark("--tenant", "acme", "--out", "report.docx")
    unknown = _tidemark("--tenant", "nobody", "--out", str(tmp_path / "x.html"))
    unbuilt = _tidemark("--tenant", "acme", "--out", str(tmp_path / "x.html"))
    assert (suffix.returncode, unknown.returncode, unbuilt.returncode) == (2, 2, 1)
    assert ".html or .pdf" in suffix.stderr
    assert "tidemark tenant create nobody" in unknown.stderr
    assert "tidemark refresh" in unbuilt.stderr
    assert "Traceback" not in suffix.stderr + unknown.stderr + unbuilt.stderr
    assert list(tmp_path.glob("*.html")) == []


def _materialize(database: Database, settings: Settings) -> tuple[dict[str, Any], dg.AssetCheckEvaluation]:
    result = dg.materialize(definitions(), resources={"database": database, "settings": settings})
    [event] = result.asset_materializations_for_node("tenant_reports")
    [check] = result.get_asset_check_evaluations()
    return {name: value.value for name, value in event.metadata.items()}, check


def test_each_tenant_has_its_newest_twelve_reports_and_one_s_failure_is_named_and_stops_no_other(
    database: Database, settings: Settings, connection: Connection
) -> None:
    make_marts(connection)
    fill_marts(connection, "acme", ["invoice"])
    fill_marts(connection, "broken", ["invoice"])
    fill_marts(connection, "globex", ["receipt"])
    connection.execute("delete from marts.overview where tenant_id = 'broken'")
    folder = settings.home / "reports"
    _materialize(database, settings)
    assert folder.stat().st_mode & 0o077 == 0, "for its owner alone"
    for day in range(10, 25):
        (folder / "acme" / f"2026-01-{day}.html").touch()
    (folder / "acme" / "kept-by-hand.html").touch()

    metadata, check = _materialize(database, settings)

    newest = f"{AS_OF}.html"
    assert (metadata["tenants"], check.check_name, check.passed) == (2, CHECK, False)
    [failure] = check.metadata["failures"].value.records  # type: ignore[union-attr]
    assert failure.data["tenant"] == "broken"
    assert sorted(path.name for path in (folder / "globex").iterdir()) == [newest, "latest.html"]
    assert (folder / "acme" / "latest.html").read_bytes() == (folder / "acme" / newest).read_bytes()
    dated = sorted(path.name for path in (folder / "acme").glob("2026-*.html"))
    assert (len(dated), dated[0], dated[-1]) == (12, "2026-01-14.html", newest)
    assert (folder / "acme" / "kept-by-hand.html").exists()
    assert not (folder / "broken").exists()

    content = (folder / "acme" / newest).read_bytes()
    connection.execute("delete from access.tenants where tenant_id = 'broken'")
    again, check = _materialize(database, settings)
    assert check.passed
    assert (folder / "acme" / newest).read_bytes() == content
    assert again["bytes"] == metadata["bytes"]


def test_reports_are_no_part_of_a_refresh_and_wait_for_no_run_that_builds_marts() -> None:
    @dg.asset(partitions_def=DAYS)
    def something_refreshed() -> None: ...

    builds = [refresh_job([]), nightly_job()]
    jobs = dg.Definitions(
        assets=[something_refreshed, *definitions()],
        jobs=[*builds, REPORTS_JOB],
        schedules=[weekly_reports],
        resources={"database": None, "settings": None},
    )
    for job in builds:
        assert set(jobs.resolve_job_def(job.name).asset_layer.executable_asset_keys) == {something_refreshed.key}
    reports = jobs.resolve_job_def(REPORTS_JOB.name)
    assert set(reports.asset_layer.executable_asset_keys) == {tenant_reports.key}
    assert not set(BUILDS_MARTS) & set(reports.tags)
    assert (weekly_reports.cron_schedule, weekly_reports.execution_timezone) == ("0 6 * * 1", "UTC")
