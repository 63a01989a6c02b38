"""The audit log: written by whoever acts, changed by nobody, sealed once a day is over, kept for its time exactly."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from one_day import begin_a_day_if_it_is_near
from sqlalchemy import NullPool, create_engine

import storage.migrate
from storage.audit import acting_as, record_audit
from storage.audit_seals import (
    drop_released_days,
    latest_entries,
    read_witness,
    released_days,
    seal_ended_days,
    verify_log,
)
from storage.database import Connection, Database, connect
from storage.errors import UsageError
from storage.postgres_url import PostgresUrl

KEEP = 90
_PAST = """
select access.ensure_audit_day(%(day)s::date);
insert into access.audit_log (tenant_id, at, actor, action, subject, detail)
select
    'acme', %(day)s::date::timestamp at time zone 'UTC' + number * interval '1 hour', 'ann', 'key.create', number::text,
    '{}'
from generate_series(1, %(entries)s) as number
"""
_PARTITIONS = "select inhrelid::regclass::text from pg_inherits where inhparent = 'access.audit_log'::regclass"

AddPast = Callable[[date, int], None]


@pytest.fixture
def today(connection: Connection) -> date:
    begin_a_day_if_it_is_near(timedelta(seconds=10))
    [[now]] = connection.execute("select clock_timestamp()").fetchall()
    day: date = now.date()
    return day


@pytest.fixture
def past(connection: Connection) -> AddPast:
    """`past(day, entries)`: entries of a day that is over, as the log would have them if the server had run then."""

    def past(day: date, entries: int) -> None:
        with psycopg.ClientCursor(connection) as cursor:
            cursor.execute(_PAST, {"day": day, "entries": entries})

    return past


def _tamper(connection: Connection, statement: str, *arguments: Any) -> None:
    """What only a superuser can do."""
    with connection.transaction():
        connection.execute("set local session_replication_role = replica")
        connection.execute(statement.encode(), arguments)


def test_entries_name_who_acts_and_stand_or_fall_with_the_action(connection: Connection, today: date) -> None:
    record_audit(connection, tenant_id="acme", action="a", subject="1")
    with acting_as("key:0fm2x"):
        with acting_as("run:77"):
            record_audit(connection, tenant_id=None, action="b", subject="2", detail={"x": 1.5})
        record_audit(connection, tenant_id="acme", action="c", subject="3")
    with connection.transaction(force_rollback=True):
        record_audit(connection, tenant_id="acme", action="undone", subject="4")
    entries = latest_entries(connection)
    assert [(entry.action, entry.actor) for entry in entries[:2]] == [("c", "key:0fm2x"), ("b", "run:77")]
    assert (entries[1].detail, entries[1].tenant_id, entries[2].actor.isidentifier()) == ('{"x": 1.5}', None, True)
    assert [entry.action for entry in latest_entries(connection, tenant_id="acme")] == ["c", "a"]
    assert latest_entries(connection, since=entries[0].at) == entries[:1]
    assert {entry.day for entry in entries} == {today}


def test_nobody_changes_an_entry_a_partition_or_a_seal_not_even_a_superuser_by_mistake(
    connection: Connection, past: AddPast, today: date
) -> None:
    past(today - timedelta(days=2), 3)
    seal_ended_days(connection, KEEP)
    partitions = [name for (name,) in connection.execute(_PARTITIONS)]
    assert len(partitions) == 9, "the day of the entries, today and the coming week"
    for relation in ["access.audit_log", "access.audit_seals", *partitions]:
        column = "sealed_at" if relation.endswith("seals") else "at"
        for statement in ("update {} set {} = now()", "delete from {}", "truncate {}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is append-only"):
                connection.execute(statement.format(relation, column).encode())


def test_each_ended_day_is_sealed_once_also_one_without_entries(
    connection: Connection, past: AddPast, today: date
) -> None:
    past(today - timedelta(days=4), 3)
    past(today - timedelta(days=2), 1)
    record_audit(connection, tenant_id=None, action="a", subject="today")
    sealing = seal_ended_days(connection, KEEP)
    assert [(seal.day, seal.entries) for seal in sealing.sealed] == [
        (today - timedelta(days=4), 3),
        (today - timedelta(days=3), 0),
        (today - timedelta(days=2), 1),
        (today - timedelta(days=1), 0),
    ]
    assert (sealing.waiting, sealing.newest) == (None, sealing.sealed[-1])
    again = seal_ended_days(connection, KEEP)
    assert (again.sealed, again.newest) == ([], sealing.newest)
    verified = verify_log(connection)
    assert (len(verified.seals), verified.entries, verified.unsealed, verified.tampering) == (4, 4, 1, [])


def test_a_day_waits_for_transactions_that_may_still_write_into_it(
    connection: Connection, database: Database, past: AddPast, today: date
) -> None:
    past(today - timedelta(days=1), 1)
    with database.connect() as late:
        record_audit(late, tenant_id=None, action="a", subject="not yet committed")
        sealing = seal_ended_days(connection, KEEP)
        assert (sealing.sealed, sealing.newest) == ([], None)
        assert "waits for transactions" in (sealing.waiting or "")
    assert len(seal_ended_days(connection, KEEP).sealed) == 1


def test_an_entry_never_falls_into_a_sealed_day_although_the_clock_was_set_back(
    connection: Connection, today: date
) -> None:
    # The same as a clock that was a day ahead when the day was sealed.
    connection.execute(
        "insert into access.audit_seals values (%s, 0, null, null, %s, '2020-01-01', now(), %s, %s)",
        [today, *[bytes(32)] * 3],
    )
    record_audit(connection, tenant_id=None, action="a", subject="s")
    assert latest_entries(connection)[0].day == today + timedelta(days=1)


TAMPERING = {
    "entry changed": "update access.audit_log set actor = 'bob' where at < %s and subject = '2'",
    "entry removed": "delete from access.audit_log where at < %s and subject = '2'",
    "entry added": """insert into access.audit_log (at, actor, action, subject, detail)
        values (%s::timestamptz - interval '1 second', 'bob', 'a', 's', '{}')""",
    "seal changed": "update access.audit_seals set entries = 4 where day < %s",
    "day missing": "delete from access.audit_seals where day < %s",
}


@pytest.mark.parametrize("kind", TAMPERING)
def test_what_a_superuser_does_shows_in_the_seals(
    connection: Connection, past: AddPast, today: date, kind: str
) -> None:
    past(today - timedelta(days=2), 3)
    seal_ended_days(connection, KEEP)
    midnight = datetime.fromisoformat(f"{today - timedelta(days=1)}T00:00:00+00:00")
    _tamper(connection, TAMPERING[kind], midnight)
    found = verify_log(connection).tampering
    assert [(tampering.day, tampering.kind) for tampering in found] == [(today - timedelta(days=2), kind)]


def test_a_dropped_partition_shows_and_a_chain_made_anew_shows_to_whoever_kept_a_seal(
    connection: Connection, past: AddPast, today: date
) -> None:
    past(today - timedelta(days=2), 3)
    witness = seal_ended_days(connection, KEEP).sealed[-1]
    connection.execute(f"drop table access.audit_log_{today - timedelta(days=2):%Y%m%d}".encode())
    [found] = verify_log(connection).tampering
    assert (found.kind, found.told) == ("entry removed", "0 entries, sealed were 3")
    _tamper(connection, "delete from access.audit_seals")
    seal_ended_days(connection, KEEP)
    assert verify_log(connection).tampering == []
    told = read_witness(f"{witness.day}:{witness.digest.hex()}")
    assert [found.kind for found in verify_log(connection, dict([told])).tampering] == ["seal changed"]
    for text in ("2026-06-01", f"x:{witness.digest.hex()}", f"{witness.day}:00", f"{witness.day}:{'g' * 64}"):
        with pytest.raises(UsageError, match="a seal looks like"):
            read_witness(text)


def test_entries_are_kept_for_exactly_their_days_and_seals_for_ever(
    connection: Connection, past: AddPast, today: date
) -> None:
    for days in (KEEP + 2, KEEP + 1, KEEP, 1):
        past(today - timedelta(days=days), 2)
    assert drop_released_days(connection) == [], "never what is not sealed"
    assert len(seal_ended_days(connection, KEEP).sealed) == KEEP + 2
    due = [today - timedelta(days=KEEP + 2), today - timedelta(days=KEEP + 1)]
    assert released_days(connection) == due
    assert drop_released_days(connection) == due
    assert drop_released_days(connection) == []
    verified = verify_log(connection)
    assert (len(verified.seals), verified.entries, verified.tampering) == (KEEP + 2, 4, [])


def test_a_log_in_use_is_not_waited_for_and_the_server_releases_nothing_that_is_young(
    connection: Connection, database: Database, past: AddPast, today: date
) -> None:
    past(today - timedelta(days=40), 1)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="younger than 30 days"):
        connection.execute(
            "select access.seal_audit_day(row(%s::date, 1, null, null, %s, %s, now(), %s, %s)::access.audit_seals)",
            [today - timedelta(days=40), bytes(32), today - timedelta(days=68), bytes(32), bytes(32)],
        )
    seal_ended_days(connection, 30)
    with database.connect() as reader:
        latest_entries(reader)
        assert drop_released_days(connection) == []
    assert drop_released_days(connection) == [today - timedelta(days=40)]


def test_entries_from_before_there_were_partitions_are_kept(server: PostgresUrl) -> None:
    url = server.with_database("tidemark")
    with connect(server.with_database("postgres"), autocommit=True) as admin:
        admin.execute("drop database if exists tidemark with (force)")
        admin.execute("create database tidemark")
    config = storage.migrate._config()
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    [before] = [script.down_revision for script in scripts if script.path.endswith("_audit.py")]
    with create_engine(url.sqlalchemy("psycopg"), poolclass=NullPool).connect() as engine:
        config.attributes["connection"] = engine
        command.upgrade(config, str(before))
        engine.commit()
    with connect(url) as connection:
        connection.execute(
            """
            insert into access.audit_log (tenant_id, at, actor, action, subject, detail)
            values ('acme', '2025-11-30T23:59:59Z', 'ann', 'tenant.create', 'acme', '{}'),
                ('acme', '2025-12-01T00:00:00Z', 'ann', 'key.create', 'k', '{"a": 1}')
            """
        )
    storage.migrate.migrate(url)
    with connect(url, autocommit=True) as connection:
        entries = latest_entries(connection)
        assert [(str(entry.day), entry.action, entry.detail) for entry in entries] == [
            ("2025-12-01", "key.create", '{"a": 1}'),
            ("2025-11-30", "tenant.create", "{}"),
        ]
        assert seal_ended_days(connection, KEEP).sealed[0].day == date(2025, 11, 30)
