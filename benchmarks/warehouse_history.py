"""Databases with a long history, made once a machine: filling 20M rows takes minutes that a benchmark should not cost.

They stay in one folder (`BENCH_HOME`, by default in the system's temporary one; 1M rows take about 0.7 GB), which one
benchmark uses at a time. Delete it to be rid of them: `rm -rf "$BENCH_HOME"`.

Belongs here: the server, its databases and what they cost. Does not belong here: the rows (`warehouse_rows`).
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psutil
from filelock import FileLock
from psycopg import sql

from assets.warehouse.build import run_dbt
from benchmarks.server_cpu import postmaster_of, server_cpu, wait_for_back_ends
from benchmarks.warehouse_rows import Calendar, land_history
from storage.database import Connection, Database, connect
from storage.embedded import start_embedded, stop_embedded
from storage.migrate import migrate
from storage.postgres_url import PostgresUrl

_DATABASE = "tidemark"
_SETTINGS: tuple[LiteralString, ...] = (
    # Its work comes in lumps, which would meet one measurement and spare the next.
    "alter system set autovacuum = off",
    "alter system set max_wal_size = '8GB'",
)
# Rows that hold alone are quicker to index at the end than one by one.
_DROP_KEYS = """
alter table raw.evaluation_keys
    drop constraint evaluation_keys_pkey, drop constraint evaluation_keys_evaluation_id_tenant_id_key
"""
_MAKE_KEYS = "alter table raw.evaluation_keys add primary key (record_key), add unique (evaluation_id, tenant_id)"


@dataclass(frozen=True)
class Cost:
    """What some work took.

    Attributes:
        wall: seconds that passed.
        server: CPU seconds of PostgreSQL, all its processes.
        client: CPU seconds of this process.
    """

    wall: float
    server: float
    client: float

    @property
    def cpu(self) -> float:
        """CPU seconds of both."""
        return self.server + self.client


@dataclass(frozen=True)
class History:
    """A database with a filled `raw` and a warehouse that has it all."""

    calendar: Calendar
    database: Database
    postmaster: psutil.Process

    def build(self, *arguments: str) -> Cost:
        """`dbt run` in this process, as the platform does."""
        return self.cost(lambda: run_dbt(["run", *arguments], self.database))

    def cost(self, work: Callable[[], object]) -> Cost:
        """What `work` takes, from a server that has nothing left to write."""
        with self.database.connect(autocommit=True) as connection:
            connection.execute("checkpoint")
        wait_for_back_ends(self.postmaster, _DATABASE)
        server = server_cpu(self.postmaster)
        wall, client = time.perf_counter(), time.process_time()
        work()
        wall, client = time.perf_counter() - wall, time.process_time() - client
        wait_for_back_ends(self.postmaster, _DATABASE)
        return Cost(wall, server_cpu(self.postmaster) - server, client)


def is_full() -> bool:
    """Whether the sizes that take minutes are asked for (`python -m benchmarks --full`)."""
    return bool(os.environ.get("BENCH_FULL"))


@contextmanager
def history(rows: int, *, to_change: bool = False) -> Iterator[History]:
    """A history of that many evaluations, made first if this machine has none yet.

    Args:
        rows: how many.
        to_change: give a copy, which is dropped at the end.
    """
    home = Path(os.environ.get("BENCH_HOME") or Path(tempfile.gettempdir()) / "tidemark-benchmarks")
    data = home / "postgres"
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "in_use.lock"):
        server = start_embedded(data)
        try:
            found = _open(server, data, rows)
            with _named(server, f"history_{rows}"):
                _bring_up_to_date(found)
            with _copied(server, f"history_{rows}") if to_change else _named(server, f"history_{rows}"):
                yield found
        finally:
            stop_embedded(data)


def _open(server: PostgresUrl, data: Path, rows: int) -> History:
    calendar = Calendar(rows)
    with connect(server.with_database("postgres"), autocommit=True) as admin:
        for setting in _SETTINGS:
            admin.execute(setting)
        admin.execute("select pg_reload_conf()")
        known = admin.execute("select 1 from pg_database where datname = %s", (f"history_{rows}",)).fetchone()
        if known is None:
            _run(admin, "drop database if exists {} with (force)", "filling")
            _run(admin, "create database {}", "filling")
            _fill(server.with_database("filling"), calendar)
            _run(admin, "alter database {} rename to {}", "filling", f"history_{rows}")
    url = server.with_database(_DATABASE)
    return History(calendar, Database(platform=url, dagster=server.with_database("dagster")), postmaster_of(data))


def _fill(url: PostgresUrl, calendar: Calendar) -> None:
    started = time.perf_counter()
    migrate(url)
    with connect(url, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute("set maintenance_work_mem = '1GB'")
        connection.execute(_DROP_KEYS)
        land_history(connection, calendar)
        connection.execute(_MAKE_KEYS)
        connection.execute("vacuum (analyze, freeze)")
    _tell(f"{calendar.rows:,} rows of {calendar.days} days filled in {time.perf_counter() - started:.0f} s")


def _bring_up_to_date(found: History) -> None:
    """Migrate and build; where the models have changed since, the build makes all of them anew."""
    migrate(found.database.platform)
    cost = found.build()
    _tell(f"{found.calendar.rows:,} rows built or found built in {cost.wall:.1f} s ({cost.cpu:.1f} CPU s)")
    with found.database.connect(autocommit=True) as connection:
        connection.execute("vacuum (skip_database_stats)")


@contextmanager
def _named(server: PostgresUrl, name: str) -> Iterator[None]:
    # A kept dbt manifest has its database's name inside, so whatever is built bears one name.
    admin_url = server.with_database("postgres")
    with connect(admin_url, autocommit=True) as admin:
        _put_back(admin)
        _run(admin, "alter database {} rename to {}", name, _DATABASE)
        _run(admin, "comment on database {} is {}", _DATABASE, sql.Literal(name))
    try:
        yield
    finally:
        with connect(admin_url, autocommit=True) as admin:
            _put_back(admin)


@contextmanager
def _copied(server: PostgresUrl, name: str) -> Iterator[None]:
    with connect(server.with_database("postgres"), autocommit=True) as admin:
        _put_back(admin)
        _run(admin, "create database {} template {} strategy file_copy", _DATABASE, name)
        try:
            yield
        finally:
            _run(admin, "drop database {} with (force)", _DATABASE)


def _put_back(admin: Connection) -> None:
    """Give the database in use its own name again; one without is a copy that a killed benchmark left."""
    found = admin.execute(
        "select shobj_description(oid, 'pg_database') from pg_database where datname = %s", (_DATABASE,)
    ).fetchone()
    if found is not None and found[0] is not None and found[0].startswith("history_"):
        _run(admin, "comment on database {} is null", _DATABASE)
        _run(admin, "alter database {} rename to {}", _DATABASE, found[0])
    elif found is not None:
        _run(admin, "drop database {} with (force)", _DATABASE)


def _run(admin: Connection, statement: LiteralString, *names: str | sql.Literal) -> None:
    admin.execute(
        sql.SQL(statement).format(*(name if isinstance(name, sql.Literal) else sql.Identifier(name) for name in names))
    )


def _tell(text: str) -> None:
    print(f"  {text}", file=sys.stderr)
