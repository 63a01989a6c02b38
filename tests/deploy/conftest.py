"""Fixtures of the BI files' tests: marts of two tenants, built, and a login made by the file that users run."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mart_records import empty_marts

from assets.evaluations.landing import land
from assets.evaluations.verdicts import Line
from assets.warehouse.build import run_dbt
from assets.warehouse.project import kept_manifest
from storage.database import Connection, Database, connect
from storage.embedded import client_program
from storage.postgres_url import PostgresUrl
from storage.settings import PROJECT_ROOT
from storage.tenants import create_tenant

DEPLOY = PROJECT_ROOT / "deploy"
READER = "acme_bi"
TENANTS = ("acme", "globex")

RunPsql = Callable[..., subprocess.CompletedProcess[str]]


def _evaluations(now: datetime) -> list[bytes]:
    """A few days of a template, of which some are judged and one waits for review."""
    return [
        json.dumps(
            {
                "template": "invoice",
                "extractor_vendor": "acme-ai",
                "extractor_model": f"reader-{number % 2}",
                "drift_score": 0.1 + number / 100,
                "reliability_score": 0.9,
                "decision": "review" if number == 0 else "accept",
                "features": {"pages": number},
                "created_at": (now - timedelta(hours=12 * number)).isoformat(),
            }
            | ({"success": number % 3 > 0} if number else {})
        ).encode()
        for number in range(12)
    ]


@pytest.fixture(scope="module")
def warehouse(prepared: Callable[..., Database]) -> PostgresUrl:
    """A database of the module's own with built marts of two tenants."""
    database = prepared(empty_marts)
    now = datetime.now(UTC)
    with database.connect(autocommit=True) as connection:
        for tenant in TENANTS:
            create_tenant(connection, tenant)
            lines = [Line(number, record) for number, record in enumerate(_evaluations(now), start=1)]
            assert not land(connection, tenant, "evaluations", lines, door="test", now=now).problems
    run_dbt(["run"], database)
    return database.platform


@pytest.fixture(scope="module")
def psql(warehouse: PostgresUrl) -> RunPsql:
    """`psql(file, password=…, role=…)`: runs one of deploy/postgres as its users do, as the platform's owner."""

    def psql(file: str, password: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [str(client_program("psql")), "-X", "-A", "-t", "-q", warehouse.libpq()]
        for name, value in variables.items():
            command += ["-v", f"{name}={value}"]
        environment = {name: value for name, value in os.environ.items() if name != "TIDEMARK_READER_PASSWORD"}
        if password is not None:
            environment["TIDEMARK_READER_PASSWORD"] = password
        command += ["-f", str(DEPLOY / "postgres" / file)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return psql


@pytest.fixture(scope="module")
def reader_url(warehouse: PostgresUrl, psql: RunPsql) -> Iterator[PostgresUrl]:
    """The address of a login of acme's, made by reader.sql run twice."""
    for password in ("first", "it's another"):
        made = psql("reader.sql", password, role=READER, tenant="acme", connections="3")
        assert (made.returncode, made.stdout.strip().splitlines()[-1]) == (0, f"{READER}|{{acme}}"), made.stderr
    yield replace(warehouse, user=READER)
    with connect(warehouse, autocommit=True) as owner:
        owner.execute(f"drop owned by {READER}")  # type: ignore[arg-type]
        owner.execute(f"drop role {READER}")  # type: ignore[arg-type]


@pytest.fixture
def reader(reader_url: PostgresUrl) -> Iterator[Connection]:
    """A connection of that login."""
    with connect(reader_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def marts() -> dict[str, Mapping[str, Any]]:
    """Each mart's node in dbt's manifest."""
    nodes = kept_manifest().read()["nodes"].values()
    return {node["name"]: node for node in nodes if node["resource_type"] == "model" and node["schema"] == "marts"}
