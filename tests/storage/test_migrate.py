"""Migrations: one at a time, all or nothing, and never on a database that isn't ours."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

import storage.migrate
from storage.database import Database, connect, open_database
from storage.errors import MigrationError
from storage.migrate import head_revision, migrate
from storage.postgres_url import PostgresUrl
from storage.settings import Settings

SCHEMAS = {"raw", "access", "alerting", "ml", "staging", "intermediate", "marts"}


def _empty(server: PostgresUrl) -> PostgresUrl:
    with connect(server.with_database("postgres"), autocommit=True) as admin:
        admin.execute("drop database if exists tidemark with (force)")
        admin.execute("create database tidemark")
    return server.with_database("tidemark")


def test_starts_at_once_do_not_collide_and_make_every_schema(server: PostgresUrl, settings: Settings) -> None:
    with connect(server.with_database("postgres"), autocommit=True) as admin:
        admin.execute("drop database tidemark with (force)")
    with ThreadPoolExecutor(4) as pool:
        databases = list(pool.map(lambda _: open_database(settings), range(4)))
    with databases[0].connect() as connection:
        found = {row[0] for row in connection.execute("select nspname from pg_namespace")}
        versions = connection.execute("select version_num from alembic_version").fetchall()
    assert found >= SCHEMAS
    assert len(versions) == 1


def test_a_migration_that_breaks_leaves_nothing_half_done(server: PostgresUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _empty(server)
    whole = Path.read_text

    def broken(path: Path, encoding: str | None = None) -> str:
        text = whole(path, encoding=encoding)
        return text + "\nselect 1 / 0;" if path.suffix == ".sql" else text

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", broken)
        with pytest.raises(Exception, match="division by zero"):
            migrate(url)
    with connect(url) as connection:
        assert connection.execute("select count(*) from pg_namespace where nspname = 'raw'").fetchone() == (0,)
    migrate(url)


def test_schemas_without_a_migration_record_are_refused_with_the_remedy(server: PostgresUrl) -> None:
    url = _empty(server)
    with connect(url) as connection:
        connection.execute("create schema raw")
    with pytest.raises(MigrationError, match=r"\(raw\).*half migrated.*backup.*empty database"):
        migrate(url)


def test_a_newer_schema_is_refused_and_left_alone(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(MigrationError, match=r"revision 9999, newer than this version's .*: upgrade Tidemark"):
        migrate(database.platform)


def test_the_files_names_tell_the_revision_that_alembic_ends_at() -> None:
    assert ScriptDirectory.from_config(storage.migrate._config()).get_current_head() == head_revision()


def test_partitions_of_the_coming_months_exist_ahead_of_time(database: Database) -> None:
    with database.connect() as connection:
        partitions = {
            row[0]
            for row in connection.execute(
                "select inhrelid::regclass::text from pg_inherits where inhparent = 'raw.evaluations'::regclass"
            )
        }
    today = datetime.now(UTC)
    months = [
        divmod(today.year * 12 + today.month - 1 + ahead, 12) for ahead in range(storage.migrate._MONTHS_AHEAD + 1)
    ]
    assert partitions >= {f"raw.evaluations_{year}{month + 1:02}" for year, month in months}
