"""Forecasts in two real processes at once: one waits for the other, and the same rows come out as of one."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

import pytest
from forecast_marts import NOW, materialize, prepare

from storage.database import Connection, Database

pytestmark = pytest.mark.begins(after=prepare)

ROOT = Path(__file__).parents[2]
RUN = """
import sys
from datetime import datetime
import dagster as dg
from assets.forecasts.assets import definitions
from storage.clock import Clock
from storage.database import Database
from storage.postgres_url import PostgresUrl
from storage.settings import Settings

url, now, *chosen = sys.argv[1:]
database = Database(platform=PostgresUrl.parse(url), dagster=PostgresUrl.parse(url))
clock = Clock(lambda: datetime.fromisoformat(now))
resources = {"database": database, "clock": clock, "settings": Settings()}
dg.materialize(definitions(), resources=resources, selection=chosen or None)
"""
WAITING = "select count(distinct pid) from pg_locks where not granted"
TABLES = (
    *("drift_forecasts", "forecast_models", "forecast_champions", "forecast_promotions", "forecast_calibrations"),
    *("forecast_memory", "forecast_backtests", "drift_anomalies"),
)
CONTENT = (
    "select to_jsonb(stored) - '{forecast_id, promotion_id, promoted_at, computed_at}'::text[] from ml.%s as stored"
)


def content(connection: Connection) -> dict[str, list[str]]:
    """Everything but what says when it was written."""
    return {name: sorted(str(row[0]) for row in connection.execute(CONTENT % name)) for name in TABLES}  # type: ignore[call-overload]


def race(database: Database, connection: Connection, gate: str, *chosen: str) -> Sequence[str]:
    """Let two processes materialize the chosen assets, both held back at a table until both are there; their errors."""
    command = [sys.executable, "-c", RUN, database.platform.libpq(), NOW.isoformat(), *chosen]
    with database.connect() as gatekeeper:
        gatekeeper.execute(f"lock table {gate} in access exclusive mode")  # type: ignore[call-overload]
        both = [
            subprocess.Popen(
                command, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        deadline = monotonic() + 60
        while connection.execute(WAITING).fetchone() != (2,) and monotonic() < deadline:
            sleep(0.05)
        assert connection.execute(WAITING).fetchone() == (2,)
    said = [process.communicate(timeout=120)[1] for process in both]
    return [text[-3000:] for process, text in zip(both, said, strict=True) if process.returncode]


def test_two_nights_at_once_write_the_rows_of_one(database: Database, connection: Connection) -> None:
    assert race(database, connection, "ml.forecast_memory") == []
    together = content(connection)
    assert race(database, connection, "ml.forecast_champions", "forecast_backtests", "drift_anomalies") == []
    connection.execute("update ml.forecast_backtests set tried_on = tried_on - 28")
    assert race(database, connection, "ml.forecast_champions", "forecast_backtests") == []
    assert content(connection) == together
    tables = ", ".join(f"ml.{name}" for name in TABLES)
    connection.execute(f"set session_replication_role = replica; truncate {tables}")  # type: ignore[call-overload]
    materialize(database)
    assert content(connection) == together
