"""Dagster's instance: its home under `TIDEMARK_HOME`, its storage in PostgreSQL, its telemetry off."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration.executors import celery_environment, prepare_broker
from storage.database import Database, create_if_missing
from storage.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

_DAGSTER_YAML = """\
# Written by Tidemark at each start; change TIDEMARK_DAGSTER_DATABASE_URL rather than this file.
storage:
  postgres:
    postgres_url:
      env: TIDEMARK_DAGSTER_DATABASE_URL
concurrency:
  runs:
    # Runs that build marts never overlap, whoever asks for them: a sensor, the schedule, a person or the command line.
    tag_concurrency_limits:
      - key: tidemark/builds_marts
        limit: 1
  pools:
    # The same by what a run does rather than by what it is called: one in the pool `warehouse`. By runs and not by
    # steps, because the slot of a step whose process was killed would stay taken.
    granularity: run
    default_limit: 1
freshness:
  enabled: true
retention:
  # Sensors look every few seconds and mostly find nothing. Runs and events: the asset dagster_retention.
  sensor:
    purge_after_days: {skipped: 2, success: 30, failure: 30, started: 30}
  schedule:
    purge_after_days: 90
run_monitoring:
  enabled: true
telemetry:
  enabled: false
nux:
  enabled: false
"""

# A run over a year of days writes one event a day: in batches that costs half as much.
QUIET = {
    "DO_NOT_TRACK": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "DAGSTER_EVENT_BATCH_SIZE": "1000",
}


def instance_environment(settings: Settings, database: Database) -> dict[str, str]:
    """Make Dagster's database, write its configuration, and return the environment in which its processes find both.

    Raises:
        DatabaseUnavailableError: the server of Dagster's database does not answer.
    """
    create_if_missing(database.dagster)
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    _write_if_changed(home / "dagster.yaml", _DAGSTER_YAML)
    prepare_broker(settings, database)
    places = {"DAGSTER_HOME": str(home), "TIDEMARK_HOME": str(settings.home)}
    return QUIET | database.environment | places | celery_environment(settings, database)


def open_instance(settings: Settings, database: Database) -> "dg.DagsterInstance":
    """The deployment's instance, for use in this process."""
    # Not at the top: `tidemark up` writes Dagster's configuration for its children and needs no Dagster itself.
    import dagster as dg

    os.environ.update(instance_environment(settings, database))
    return dg.DagsterInstance.get()


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
