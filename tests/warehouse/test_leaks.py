"""A leak that somebody plants stops what relies on marts, and doctor names it."""

import json
import os
import subprocess
import sys

import dagster as dg
import pytest

from assets.warehouse.checks import readers_see_only_their_tenants
from storage.database import Connection, Database
from storage.settings import PROJECT_ROOT, Settings

PLANTED = {
    "marts.peek": "create view marts.peek as select * from raw.evaluations; grant select on marts.peek to bi_reader",
    "marts.peek()": """create function marts.peek() returns setof raw.evaluations language sql security definer
        as 'select * from raw.evaluations'""",
    "marts.copied": "create table marts.copied as table raw.evaluations; grant select on marts.copied to api_reader",
}


def _check(database: Database) -> dg.AssetCheckEvaluation:
    definitions = dg.Definitions(
        assets=[dg.AssetSpec(["marts", "dim_tenants"])],
        asset_checks=[readers_see_only_their_tenants],
        resources={"database": dg.ResourceDefinition.hardcoded_resource(database)},
    )
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(raise_on_error=False)
    [evaluation] = result.get_asset_check_evaluations()
    return evaluation


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_fails_the_check_and_is_gone_with_its_cause(
    database: Database, connection: Connection, name: str
) -> None:
    assert _check(database).passed
    connection.execute(PLANTED[name])  # type: ignore[call-overload]
    failed = _check(database)
    assert (failed.passed, failed.blocking) == (False, True)
    assert f"{name}: " in (failed.description or "")


def test_doctor_names_a_planted_leak_and_who_sees_it(settings: Settings, connection: Connection) -> None:
    connection.execute(PLANTED["marts.peek"])  # type: ignore[call-overload]
    doctor = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", "doctor", "--json"],
        cwd=PROJECT_ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert doctor.returncode == 1, doctor.stderr
    said = {row["check"]: row["result"] for row in json.loads(doctor.stdout)}
    assert said["readers' isolation"].startswith("marts.peek: the view looks with its owner's eyes")
    assert "bi_reader" in said["readers' isolation"]
