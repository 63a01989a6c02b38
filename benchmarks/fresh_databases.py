"""An embedded server of a benchmark's own, and fresh databases in it, each with one tenant."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.database import connect
from storage.embedded import start_embedded, stop_embedded
from storage.migrate import migrate
from storage.postgres_url import PostgresUrl
from storage.tenants import create_tenant

TENANT = "bench"

_DATABASE, _TEMPLATE = "bench", "bench_template"


@contextmanager
def fresh_server(data: Path) -> Iterator[PostgresUrl]:
    """A server over a folder, gone after the block; its databases are made by `fresh_database`."""
    url = start_embedded(data)
    try:
        with connect(url.with_database("postgres"), autocommit=True) as admin:
            admin.execute(f"create database {_TEMPLATE}")
        migrate(url.with_database(_TEMPLATE))
        yield url
    finally:
        stop_embedded(data)


def fresh_database(server: PostgresUrl) -> PostgresUrl:
    """A migrated database in place of the one before."""
    with connect(server.with_database("postgres"), autocommit=True) as admin:
        admin.execute(f"drop database if exists {_DATABASE} with (force)")
        admin.execute(f"create database {_DATABASE} template {_TEMPLATE}")
    url = server.with_database(_DATABASE)
    with connect(url) as connection:
        create_tenant(connection, TENANT)
    return url
