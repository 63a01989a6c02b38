"""Bringing the schema up to date: Alembic under an advisory lock, each upgrade in one transaction.

Two starts at once wait for each other. A crash half-way leaves nothing half-done, because PostgreSQL rolls DDL back;
what can't be explained by that (foreign tables in Tidemark's schemas, a newer version's schema) is refused by name.
"""

from datetime import UTC, date, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import ProgrammingError

from storage.errors import MigrationError
from storage.locks import AdvisoryLock
from storage.postgres_url import PostgresUrl

_MONTHS_AHEAD = 3
_OLDEST_SERVER = 180_000
_SCHEMAS = ("raw", "access", "alerting", "ml")


def migrate(url: PostgresUrl) -> str:
    """Upgrade the database at `url` to the newest schema, make the coming partitions, return the revision.

    Raises:
        MigrationError: the schema is newer than this version, or wasn't made by Tidemark.
    """
    config = _config()
    head = head_revision()
    engine = create_engine(url.sqlalchemy("psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        # Held by the session, not the transaction: it must outlive the upgrade's commit.
        connection.execute(text("select pg_advisory_lock(:key)"), {"key": AdvisoryLock.MIGRATION.value})
        connection.commit()
        try:
            _require_server(connection)
            if _current(connection, head) != head:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
            _make_partitions_ahead(connection)
            connection.commit()
        except CommandError as error:
            raise MigrationError(f"migration to {head} failed: {error}") from error
        except (ProgrammingError, InsufficientPrivilege) as error:
            denied = error.orig if isinstance(error, ProgrammingError) else error
            if not isinstance(denied, InsufficientPrivilege):
                raise
            raise MigrationError(
                f"{url.user} may not migrate {url.masked()}: {denied.diag.message_primary}. The login must own the "
                "database and be able to create roles, and a superuser must have run `create extension vector` in it: "
                "docs/access.md, A server of your own"
            ) from None
        finally:
            connection.rollback()
            connection.execute(text("select pg_advisory_unlock(:key)"), {"key": AdvisoryLock.MIGRATION.value})
            connection.commit()
    return head


def head_revision() -> str:
    """The revision that this version of Tidemark works with."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _require_server(connection: Connection) -> None:
    version = int(connection.scalar(text("select current_setting('server_version_num')")) or 0)
    if version < _OLDEST_SERVER:
        raise MigrationError(
            f"the server is PostgreSQL {version // 10_000}; Tidemark needs 18 or newer (it uses uuidv7()). Upgrade it, "
            "or unset TIDEMARK_DATABASE_URL for the embedded server"
        )
    if not connection.scalar(text("select exists (select 1 from pg_available_extensions where name = 'vector')")):
        raise MigrationError("the server lacks the extension pgvector: install its package for that server")


def _current(connection: Connection, head: str) -> str | None:
    has_version_table = connection.scalar(text("select to_regclass('public.alembic_version') is not null"))
    current = connection.scalar(text("select version_num from public.alembic_version")) if has_version_table else None
    if current is None:
        # marts and its siblings are dbt's and may be there; these four are made by migrations alone.
        foreign = connection.scalars(
            text("select nspname from pg_namespace where nspname = any(:names) order by 1"), {"names": list(_SCHEMAS)}
        ).all()
        if foreign:
            raise MigrationError(
                f"the database has schemas ({', '.join(foreign)}) but no record of Tidemark's migrations: it is half "
                "migrated or somebody else's. Restore it from a backup, drop those schemas if nothing in them matters, "
                "or point TIDEMARK_DATABASE_URL at an empty database"
            )
    elif current > head:
        raise MigrationError(
            f"the database is at revision {current}, newer than this version's {head}: "
            "upgrade Tidemark, or use the database's backup from before"
        )
    return current


def _make_partitions_ahead(connection: Connection) -> None:
    today = datetime.now(UTC).date()
    for ahead in range(_MONTHS_AHEAD + 1):
        year, month = divmod(today.year * 12 + today.month - 1 + ahead, 12)
        connection.execute(text("select raw.ensure_evaluations_month(:day)"), {"day": date(year, month + 1, 1)})
    connection.execute(text("select access.ensure_audit_days_ahead()"))
