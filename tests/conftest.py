"""Shared fixtures: one real PostgreSQL a test process, each test a fresh database cloned from a template."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.database import Connection, Database, connect
from storage.embedded import start_embedded, stop_embedded
from storage.migrate import migrate
from storage.postgres_url import PostgresUrl
from storage.settings import Settings
from storage.tenants import create_tenant

os.environ |= {
    "DO_NOT_TRACK": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "DAGSTER_DISABLE_TELEMETRY": "1",
}
for name in [name for name in os.environ if name.startswith("TIDEMARK_")]:
    del os.environ[name]

TENANT = "acme"
# `make test` hands whole files to its processes, in this order and then by name: each file's databases are prepared
# once, and no process is left alone with a long file at the end. (xdist's groups do nothing with pytest 9.2:
# https://github.com/pytest-dev/pytest-xdist/issues/1386.)
LONGEST_FIRST = (
    "faults/test_warehouse_faults.py",
    "warehouse/test_increments.py",
    "journeys/test_demo.py",
    "journeys/test_up.py",
    "warehouse/test_marts.py",
    "warehouse/test_retention.py",
    "warehouse/test_assets.py",
    "warehouse/test_standing.py",
    "orchestration/test_jobs.py",
    "orchestration/test_cli.py",
    "forecasts/test_forecast_assets.py",
    "warehouse/test_readers.py",
    "faults/test_build_races.py",
    "alerts/test_missing_evaluations.py",
    "warehouse/test_batches.py",
)
# Where Linux keeps files in memory: to make a database's 600 files takes a fortieth of a second there and up to half a
# second on a disk. A server holds some 200 MB.
_IN_MEMORY = Path("/dev/shm")  # noqa: S108
_ROOM_BYTES = 2 * 1024**3
Prepare = Callable[[Database], None]
Prepared = Callable[..., Database]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "begins(after): the test's database is as these preparations (one or a tuple) leave it"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    here = Path(__file__).parent
    items.sort(key=lambda item: places.get(item.path.relative_to(here).as_posix(), len(places)))


@contextmanager
def _folder_for_servers() -> Iterator[Path]:
    roomy = _IN_MEMORY.is_dir() and os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free > _ROOM_BYTES
    with tempfile.TemporaryDirectory(prefix="tidemark-test-", dir=_IN_MEMORY if roomy else None) as folder:
        yield Path(folder)


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder for a server of the test's own: in memory where there is room, so never the subject of a power loss."""
    with _folder_for_servers() as folder:
        yield folder


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresUrl]:
    """The test process's own server; its database `tidemark_template` is migrated and empty."""
    with _folder_for_servers() as folder:
        data = folder / "postgres"
        url = start_embedded(data)
        with connect(url.with_database("postgres"), autocommit=True) as admin:
            # The suite's crashes kill processes, not the machine: durability against power loss would only cost time.
            admin.execute("alter system set fsync = off")
            admin.execute("select pg_reload_conf()")
            admin.execute("create database tidemark_template")
            admin.execute("create database dagster")
        migrate(url.with_database("tidemark_template"))
        yield url
        stop_embedded(data)


@pytest.fixture(scope="session")
def prepared(server: PostgresUrl) -> Prepared:
    """`prepared(first, …, last)`: a fresh database as these leave it, one after the other; with none, it is empty.

    A build costs seconds and a copy a tenth of one: what many tests begin with is made once a test process, and so is
    what many preparations begin with (marts that are built of nothing, mostly). The database's name is always
    `tidemark`, because a kept dbt manifest has the name inside.
    """
    templates: dict[tuple[Prepare, ...], str] = {(): "tidemark_template"}
    database = Database(platform=server.with_database("tidemark"), dagster=server.with_database("dagster"))

    def administer(*statements: str) -> None:
        with connect(server.with_database("postgres"), autocommit=True) as admin:
            for statement in statements:
                admin.execute(statement)  # type: ignore[call-overload]

    def prepared(*steps: Prepare) -> Database:
        if steps not in templates:
            *before, last = steps
            last(prepared(*before))
            name = f"prepared_{len(templates)}"
            administer(f"alter database tidemark rename to {name}")
            templates[steps] = name
        administer(
            "drop database if exists tidemark with (force)",
            f"create database tidemark template {templates[steps]} strategy file_copy",
        )
        return database

    return prepared


@pytest.fixture
def database(prepared: Prepared, request: pytest.FixtureRequest) -> Database:
    """A fresh, migrated database; as preparations leave it for tests marked with `begins(after=…)`."""
    marker = request.node.get_closest_marker("begins")
    after = marker.kwargs["after"] if marker is not None else ()
    return prepared(*(after if isinstance(after, tuple) else (after,)))


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """An autocommit connection to the fresh database: what a test looks with from outside."""
    with database.connect(autocommit=True) as connection:
        yield connection


@pytest.fixture
def tenant(connection: Connection) -> str:
    """A tenant in the fresh database."""
    create_tenant(connection, TENANT)
    return TENANT


@pytest.fixture
def settings(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a deployment whose home is temporary and whose databases are the fresh ones."""
    for name, value in (database.environment | {"TIDEMARK_HOME": str(tmp_path / "home")}).items():
        monkeypatch.setenv(name, value)
    return Settings(_env_file=None)  # type: ignore[call-arg]
