"""The newcomer's first command: `tidemark demo`, twice, on an empty home with the embedded server."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from one_day import begin_a_day_if_it_is_near

from orchestration.demo.run import DemoReport, judge_checks
from orchestration.demo.scenario import TENANTS
from storage.database import Connection
from storage.settings import PROJECT_ROOT
from storage.tenants import create_tenant


def _demo(home: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", "demo", "--json"],
        cwd=PROJECT_ROOT,
        env=os.environ | {"TIDEMARK_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _sum(report: dict[str, Any], verdict: str) -> int:
    return sum(part[verdict] for part in report["landed"].values())


def test_the_demo_finds_what_was_planted_and_finds_the_same_again_without_doubling_anything(
    server_folder: Path,
) -> None:
    # What is forecast, and what is still up to date, are of a day.
    begin_a_day_if_it_is_near(timedelta(minutes=3))
    first = _demo(server_folder / "home")
    again = _demo(server_folder / "home")

    assert first["problems"] == again["problems"] == []
    assert first["findings"] == again["findings"]
    assert all(finding["found"] for finding in first["findings"])
    assert len(first["findings"]) >= 10
    assert first["alerts"] == again["alerts"]
    assert set(first["alerts"]) == {
        *("drift_high", "reliability_low", "decision_review", "template_new"),
        # freight-invoice has been above its bound for two days: it will rather stay there than not.
        *("drift_anomaly", "drift_predicted"),
    }

    assert _sum(first, "accepted") > 20_000
    assert _sum(again, "accepted") == 0
    assert _sum(again, "duplicates") == _sum(first, "accepted") + _sum(first, "duplicates")
    assert _sum(first, "rejected") == _sum(again, "rejected") == 23
    assert first["refresh"]["checks_failed"] == 0
    # No day is judged again; of the marts those alone that show the demo's endpoint, which is another.
    assert (again["refresh"]["first_day"], again["refresh"]["checks_failed"]) == (None, 0)
    assert again["refresh"]["assets"] < first["refresh"]["assets"] / 4

    assert first["webhooks"]["delivered"] == first["webhooks"]["verified"] > 0
    assert again["webhooks"] == first["webhooks"] | {"replayed": True}


def test_a_warning_fails_the_demo_only_where_there_are_no_tenants_but_its_own(connection: Connection) -> None:
    refresh = {"failed": ["a: warns (warn)", "b: fails (error)"], "warnings": ["a: warns (warn)"]}
    create_tenant(connection, TENANTS[0].tenant_id)
    alone, among_others = DemoReport(refresh=refresh), DemoReport(refresh=refresh)
    judge_checks(connection, alone)
    create_tenant(connection, "acme")
    judge_checks(connection, among_others)
    assert (len(alone.problems), len(alone.notes)) == (2, 0)
    assert among_others.problems == ["an asset check failed: b: fails (error)"]
    assert "a: warns" in among_others.notes[0]
