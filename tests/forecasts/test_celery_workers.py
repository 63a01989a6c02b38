"""Invariant: what Celery's workers replay, each a process of its own, is judged to the same bits as in one process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from dagster import AssetKey
from dagster._core.definitions.reconstruct import ReconstructableRepository
from forecast_marts import MARTS, MONTHS, TENANT, calm, fill, materialize
from one_day import begin_a_day_if_it_is_near

from orchestration.instance import open_instance
from storage.database import Connection, Database
from storage.settings import PROJECT_ROOT, Settings
from storage.tenants import create_tenant

TEMPLATES, DAYS = 12, 60
JUDGED = """
select to_jsonb(forecasts) - '{forecast_id, computed_at}'::text[] from ml.drift_forecasts as forecasts
order by template_id, measure, date
"""
OF_A_RUN = ("forecast_memory", "forecast_models", "drift_forecasts")


@pytest.fixture
def workers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Two workers, and the settings of a deployment that has them."""
    monkeypatch.setenv("TIDEMARK_FORECAST_EXECUTOR", "celery")
    monkeypatch.setenv("TIDEMARK_FORECAST_SHARDS", "3")
    logs = [Path(settings.home).with_name(f"worker-{name}.log") for name in "ab"]
    processes = []
    for name, log in zip("ab", logs, strict=True):
        command = [sys.executable, "-m", "orchestration.cli", "worker", "--name", name]
        with log.open("w") as output:
            processes.append(subprocess.Popen(command, cwd=PROJECT_ROOT, env=os.environ, stdout=output, stderr=output))
    yield Settings(_env_file=None)  # type: ignore[call-arg]
    for process in processes:
        process.send_signal(signal.SIGTERM)
    ended = [process.wait(60) for process in processes]
    assert ended == [143, 143], [log.read_text() for log in logs]


def test_two_workers_share_a_night_and_verdicts_are_those_of_one_process(
    workers: Settings, database: Database, connection: Connection
) -> None:
    begin_a_day_if_it_is_near(timedelta(minutes=3))
    today = datetime.now(UTC).date()
    connection.execute(MARTS)
    create_tenant(connection, TENANT)
    random = np.random.default_rng(5)
    for number in range(TEMPLATES):
        fill(connection, TENANT, f"calm-{number}", calm(random, DAYS), last=today - timedelta(days=1))
    connection.execute(MONTHS)
    job = ReconstructableRepository.for_module(
        "orchestration.definitions", "defs", working_directory=str(PROJECT_ROOT)
    ).get_reconstructable_job("forecast")
    with open_instance(workers, database) as instance:
        chosen = [AssetKey(name) for name in OF_A_RUN]
        with dg.execute_job(job, instance, asset_selection=chosen) as result:
            assert result.success
        steps = {
            event.step_key: event.engine_event_data.metadata["Celery worker"].value
            for event in (entry.dagster_event for entry in instance.all_logs(result.run_id))
            if event and event.is_engine_event and "Celery worker" in event.engine_event_data.metadata
        }
    parts = [step for step in steps if step.startswith("forecast_memory.replay_templates[")]
    assert len(parts) == 3
    assert {worker.split("@")[0] for worker in steps.values()} == {"a", "b"}
    judged = connection.execute(JUDGED).fetchall()
    # All days but the first seven, and seven ahead.
    assert len(judged) == TEMPLATES * 2 * DAYS

    connection.execute("set session_replication_role = replica")
    connection.execute("truncate ml.drift_forecasts, ml.forecast_models, ml.forecast_champions, ml.forecast_promotions")
    connection.execute("truncate ml.forecast_memory, ml.forecast_calibrations, ml.forecast_lessons")
    connection.execute("truncate ml.forecast_hindsight")
    materialize(database, datetime.combine(today, time(12), UTC), hindsight=TEMPLATES * DAYS)
    assert connection.execute(JUDGED).fetchall() == judged
