"""Migrations: one at a time, all or nothing, and never on a database that isn't ours."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from cryptography.fernet import Fernet

import storage.migrate
from storage.database import Database, connect, open_database
from storage.errors import MigrationError, TidemarkError
from storage.migrate import head_revision, migrate
from storage.postgres_url import PostgresUrl
from storage.secrets import secret_box
from storage.settings import Settings
from storage.tenants import create_tenant

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
    # Not only before the month in which the test process began.
    today = datetime.now(UTC)
    migrate(database.platform)
    with database.connect() as connection:
        partitions = {
            row[0]
            for row in connection.execute(
                "select inhrelid::regclass::text from pg_inherits where inhparent = 'raw.evaluations'::regclass"
            )
        }
    months = [
        divmod(today.year * 12 + today.month - 1 + ahead, 12) for ahead in range(storage.migrate._MONTHS_AHEAD + 1)
    ]
    assert partitions >= {f"raw.evaluations_{year}{month + 1:02}" for year, month in months}


def test_addresses_of_endpoints_that_were_kept_in_clear_are_sealed_and_none_by_a_key_that_opens_nothing(
    server: PostgresUrl, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, upgrade = _empty(server), command.upgrade
    with monkeypatch.context() as before:
        before.setattr(command, "upgrade", lambda config, _: upgrade(config, "0010"))
        migrate(url)
    box, webhook_id, secret_id = secret_box(settings), uuid4(), uuid4()
    with connect(url, autocommit=True) as connection:
        create_tenant(connection, "acme")
        connection.execute(
            "insert into alerting.webhooks (webhook_id, tenant_id, url) values (%s, 'acme', %s)",
            (webhook_id, "https://hooks.example.com:8443/T0/url-token?a=b"),
        )
        connection.execute(
            """insert into alerting.webhook_secrets (secret_id, tenant_id, webhook_id, sealed)
               values (%s, 'acme', %s, %s)""",
            (secret_id, webhook_id, box.seal("whsec_", secret_id)),
        )
        with monkeypatch.context() as another:
            another.setenv("TIDEMARK_SECRET_KEYS", Fernet.generate_key().decode())
            with pytest.raises(TidemarkError, match="TIDEMARK_SECRET_KEYS"):
                migrate(url)
        migrate(url)
        [[shown, sealed]] = connection.execute("select url, sealed_url from alerting.webhooks").fetchall()
    assert shown == "https://hooks.example.com:8443/…"
    assert box.open(bytes(sealed), webhook_id) == "https://hooks.example.com:8443/T0/url-token?a=b"
