"""The drop folder as the platform serves it: ticks ask for one run, the run lands; the command line does it by hand."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from orchestration.definitions import build_definitions
from orchestration.drop_sensor import drop_folder_sensor
from orchestration.jobs import DROP_FOLDER_JOB
from orchestration.refresh import NIGHTLY_JOB
from storage.clock import Clock
from storage.database import Connection, Database
from storage.settings import PROJECT_ROOT, Settings

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
LINE = {
    "template": "invoice",
    "extractor_vendor": "v",
    "extractor_model": "m",
    "drift_score": 0.1,
    "created_at": "2026-05-01T00:00:00Z",
}


class _House:
    def __init__(self, instance: dg.DagsterInstance, database: Database, settings: Settings) -> None:
        self.instance, self.database, self.settings = instance, database, settings
        self.time = datetime.now(UTC)
        self.clock = Clock(lambda: self.time)
        self.definitions = build_definitions(settings=settings, database=database, clock=self.clock)
        self.cursor: str | None = None
        self.drop = Path(settings.drop_folder_address)

    def tick(self) -> dg.RunRequest | str:
        self.time += timedelta(seconds=15)
        with dg.build_sensor_context(
            instance=self.instance, definitions=self.definitions, cursor=self.cursor
        ) as context:
            result = drop_folder_sensor()(context, database=self.database, settings=self.settings, clock=self.clock)
        if isinstance(result, dg.SkipReason):
            return str(result.skip_message)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        if result.run_requests:
            (asked,) = result.run_requests
            return asked
        assert isinstance(result.skip_reason, dg.SkipReason)
        return str(result.skip_reason.skip_message)

    def run(self) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_job_def(DROP_FOLDER_JOB.name)
        return job.execute_in_process(instance=self.instance, run_config=QUIET, raise_on_error=False)

    def lay(self, name: str, content: bytes) -> None:
        path = self.drop / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def house(database: Database, settings: Settings) -> Iterator[_House]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield _House(instance, database, settings)


def test_ticks_ask_for_one_run_when_files_rest_and_the_run_lands_them(
    house: _House, connection: Connection, tenant: str
) -> None:
    assert "make it" in str(house.tick())
    house.lay(
        f"{tenant}/a.ndjson", b"".join(json.dumps(LINE | {"record_id": str(n)}).encode() + b"\n" for n in range(9))
    )
    house.lay(f"{tenant}/b.csv", b"colour\nred\n")
    house.lay("nobody/c.ndjson", b"{}")
    assert house.tick() == "Files that may still be being written: 2; left alone: nobody."
    asked = house.tick()
    assert isinstance(asked, dg.RunRequest)
    assert asked.tags["tidemark/files"] == "2"

    result = house.run()

    assert result.success
    (event,) = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert [metadata[name].value for name in ("files", "accepted", "failed")] == [2, 9, 1]
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert str(check.description).startswith(f"{tenant}/b.csv: ")
    assert connection.execute("select count(*) from raw.evaluations").fetchone() == (9,)
    assert house.tick() == "No new file; left alone: nobody."


def test_while_a_run_lands_and_after_one_failed_no_other_is_asked_for(house: _House, tenant: str) -> None:
    house.lay(f"{tenant}/a.ndjson", json.dumps(LINE).encode())
    house.tick()
    job = house.definitions.resolve_job_def(DROP_FOLDER_JOB.name)
    run = house.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert str(house.tick()).startswith("A run lands files")
    house.instance.report_run_failed(run)
    assert "failed: next try at" in str(house.tick())
    house.time += timedelta(minutes=2)
    assert isinstance(house.tick(), dg.RunRequest)


def test_the_refresh_leaves_the_drop_folder_to_its_own_job(house: _House) -> None:
    nightly = house.definitions.resolve_job_def(NIGHTLY_JOB)
    assert dg.AssetKey("dropped_files") not in nightly.asset_layer.executable_asset_keys


def test_by_hand_what_lies_there_lands_at_once_and_the_list_tells_what_became_of_it(
    settings: Settings, connection: Connection, tenant: str
) -> None:
    folder = Path(settings.drop_folder_address) / tenant
    folder.mkdir(parents=True)
    (folder / "a.ndjson").write_bytes(json.dumps(LINE).encode() + b"\nnot json\n")
    (folder / "notes[b].txt").write_bytes(b"")

    landed, again, listed = (
        subprocess.run(
            [sys.executable, "-m", "orchestration.cli", "drop", *arguments],
            cwd=PROJECT_ROOT,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        for arguments in (("land",), ("land", "--json", "--tenant", tenant), ("list", "--json"))
    )

    assert landed.returncode == 1
    assert f"{tenant}/a.ndjson: landed: 1 accepted, 0 duplicates, 0 conflicts, 1 rejected" in landed.stdout
    assert f"left alone: {tenant}/notes[b].txt: its suffix" in landed.stdout
    assert (again.returncode, json.loads(again.stdout)["files"]) == (0, [])
    row, left = json.loads(listed.stdout)
    assert (left["path"], left["state"], left.keys()) == (f"{tenant}/notes[b].txt", "left_alone", row.keys())
    assert (row["path"], row["state"], row["rejected"]) == (f"{tenant}/a.ndjson", "landed", 1)
