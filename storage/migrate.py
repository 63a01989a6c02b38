"""Bringing the schema up to date: Alembic under an advisory lock, each upgrade in one transaction.

Two starts at once wait for each other. A crash half-way leaves nothing half-done, because PostgreSQL rolls DDL back;
what can't be explained by that (foreign tables in Tidemark's schemas, a newer version's schema) is refused by name.
"""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg.rows import TupleRow

from storage.errors import MigrationError
from storage.locks import AdvisoryLock
from storage.postgres_url import PostgresUrl

if TYPE_CHECKING:
    from alembic.config import Config

_MONTHS_AHEAD = 3
_OLDEST_SERVER = 180_000
_SCHEMAS = ("raw", "access", "alerting", "ml")
_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(url: PostgresUrl) -> str:
    """Upgrade the database at `url` to the newest schema, make the coming partitions, return the revision.

    Raises:
        MigrationError: the schema is newer than this version, or wasn't made by Tidemark.
    """
    head = head_revision()
    try:
        with psycopg.connect(url.libpq(), autocommit=True) as connection:
            # Held by the session until it ends: it must outlive the upgrade's commit.
            connection.execute("select pg_advisory_lock(%s)", (AdvisoryLock.MIGRATION.value,))
            _require_server(connection)
            if _current(connection, head) != head:
                _upgrade(url, head)
            with connection.transaction():
                _make_partitions_ahead(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(
            f"{url.user} may not migrate {url.masked()}: {error.diag.message_primary}. The login must own the "
            "database and be able to create roles, and a superuser must have run `create extension vector` in it: "
            "docs/access.md, A server of your own"
        ) from None
    return head


def head_revision() -> str:
    """The revision that this version of Tidemark works with."""
    return max(path.name.split("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def _upgrade(url: PostgresUrl, head: str) -> None:
    # Alembic and SQLAlchemy take longer to import than a command that finds its schema up to date takes as a whole.
    from alembic import command
    from alembic.util.exc import CommandError
    from sqlalchemy import NullPool, create_engine

    config = _config()
    with create_engine(url.sqlalchemy("psycopg"), poolclass=NullPool).connect() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise MigrationError(f"migration to {head} failed: {error}") from error
        connection.commit()


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def _require_server(connection: psycopg.Connection[TupleRow]) -> None:
    version = connection.info.server_version
    if version < _OLDEST_SERVER:
        raise MigrationError(
            f"the server is PostgreSQL {version // 10_000}; Tidemark needs 18 or newer (it uses uuidv7()). Upgrade it, "
            "or unset TIDEMARK_DATABASE_URL for the embedded server"
        )
    if not _value(connection, "select exists (select 1 from pg_available_extensions where name = 'vector')"):
        raise MigrationError("the server lacks the extension pgvector: install its package for that server")


def _current(connection: psycopg.Connection[TupleRow], head: str) -> str | None:
    has_version_table = _value(connection, "select to_regclass('public.alembic_version') is not null")
    current: str | None = (
        _value(connection, "select max(version_num) from public.alembic_version") if has_version_table else None
    )
    if current is None:
        # marts and its siblings are dbt's and may be there; these four are made by migrations alone.
        foreign = connection.execute(
            "select nspname from pg_namespace where nspname = any(%s) order by 1", (list(_SCHEMAS),)
        ).fetchall()
        if foreign:
            raise MigrationError(
                f"the database has schemas ({', '.join(name for (name,) in foreign)}) but no record of Tidemark's "
                "migrations: it is half migrated or somebody else's. Restore it from a backup, drop those schemas if "
                "nothing in them matters, or point TIDEMARK_DATABASE_URL at an empty database"
            )
    elif current > head:
        raise MigrationError(
            f"the database is at revision {current}, newer than this version's {head}: "
            "upgrade Tidemark, or use the database's backup from before"
        )
    return current


def _value(connection: psycopg.Connection[TupleRow], query: LiteralString) -> Any:
    [[value]] = connection.execute(query).fetchall()
    return value


def _make_partitions_ahead(connection: psycopg.Connection[TupleRow]) -> None:
    today = datetime.now(UTC).date()
    for ahead in range(_MONTHS_AHEAD + 1):
        year, month = divmod(today.year * 12 + today.month - 1 + ahead, 12)
        connection.execute("select raw.ensure_evaluations_month(%s)", (date(year, month + 1, 1),))
    connection.execute("select access.ensure_audit_days_ahead()")
