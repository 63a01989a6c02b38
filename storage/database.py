"""The platform's database: where it is, that it is ready, and connections to it.

`open_database` is the one way in. It starts the embedded server if no address is set, makes the platform's database,
and brings its schema up to date, so that whatever runs next can rely on it. Dagster's database is made by who uses it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from storage.embedded import start_embedded
from storage.errors import DatabaseUnavailableError
from storage.migrate import migrate
from storage.postgres_url import PostgresUrl
from storage.settings import Settings

Connection = psycopg.Connection[TupleRow]
CONNECTION_PARAMETERS: dict[str, Any] = {
    "connect_timeout": 10,
    "application_name": "tidemark",
    "options": "-c timezone=UTC",
}


@dataclass(frozen=True)
class Database:
    """The two databases of one deployment: the platform's own data, and Dagster's storage."""

    platform: PostgresUrl
    dagster: PostgresUrl

    @cached_property
    def environment(self) -> dict[str, str]:
        """What a child process needs in its environment to use these databases rather than find its own."""
        return {
            "TIDEMARK_DATABASE_URL": self.platform.libpq(),
            "TIDEMARK_DAGSTER_DATABASE_URL": self.dagster.sqlalchemy("psycopg2"),
        }

    @contextmanager
    def connect(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """A connection to the platform's database: committed at the end of the block, rolled back on an exception.

        Raises:
            DatabaseUnavailableError: the server does not answer.
        """
        with connect(self.platform, autocommit=autocommit) as connection:
            yield connection


@contextmanager
def connect(url: PostgresUrl, *, autocommit: bool = False) -> Iterator[Connection]:
    """A connection to `url` in UTC: committed at the end of the block, rolled back on an exception.

    Raises:
        DatabaseUnavailableError: the server does not answer.
    """
    try:
        connection = psycopg.connect(url.libpq(), autocommit=autocommit, **CONNECTION_PARAMETERS)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(
            f"PostgreSQL at {url.masked()} does not answer: {str(error).strip()}. "
            "Is it running, and is TIDEMARK_DATABASE_URL right?"
        ) from error
    with connection:
        yield connection


def open_database(settings: Settings) -> Database:
    """Find or start PostgreSQL, create what is missing and migrate; safe when several processes do it at once.

    Dagster's database is left alone: a door's own login need not reach it, and it may be on a server of its own.

    Raises:
        DatabaseUnavailableError: no server answers, or the database is missing and this login may not create it.
        MigrationError: the schema belongs to another version of Tidemark.
    """
    database = locate_database(settings)
    create_if_missing(database.platform)
    migrate(database.platform)
    return database


def locate_database(settings: Settings) -> Database:
    """Find the databases, starting the embedded server if it is the one in use; nothing is created or migrated."""
    if settings.database_url is not None:
        platform = PostgresUrl.parse(settings.database_url.get_secret_value())
    else:
        platform = start_embedded(settings.home / "postgres")
    if settings.dagster_database_url is not None:
        dagster = PostgresUrl.parse(settings.dagster_database_url.get_secret_value())
    else:
        dagster = platform.with_database("dagster")
    return Database(platform=platform, dagster=dagster)


def create_if_missing(url: PostgresUrl) -> None:
    """Create the database of an address; safe when several processes do it at once.

    Raises:
        DatabaseUnavailableError: no server answers, or this login may not create it.
    """
    try:
        with connect(url):
            return
    except DatabaseUnavailableError as error:
        missing = isinstance(error.__cause__, psycopg.OperationalError) and "does not exist" in str(error.__cause__)
        if not missing:
            raise
    with connect(url.with_database("postgres"), autocommit=True) as connection:
        try:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(url.database)))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return  # another process that starts at the same time was quicker
        except psycopg.errors.InsufficientPrivilege:
            raise DatabaseUnavailableError(
                f"there is no database {url.database!r} at {url.masked()}, and this login may not create it. Run "
                "`tidemark migrate` with the owner's login first; if this is it, let a superuser of the server run: "
                f'create database "{url.database}" owner "{url.user}" (docs/access.md, A server of your own)'
            ) from None
