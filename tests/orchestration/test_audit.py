"""The audit log as its keepers meet it: sealed and verified each night, listed and verified on the command line."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg
import psycopg
import pytest
from one_day import begin_a_day_if_it_is_near

from assets.access.assets import audit_assets
from storage.audit_seals import seal_ended_days, verify_log
from storage.database import Connection, Database, connect
from storage.postgres_url import PostgresUrl
from storage.settings import PROJECT_ROOT, Settings
from storage.tenants import create_tenant

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_PAST = """
select access.ensure_audit_day(%(day)s::date);
insert into access.audit_log (at, actor, action, subject, detail)
values (%(day)s::date::timestamp at time zone 'UTC', 'ann', 'tenant.create', 'globex', '{}')
"""


@pytest.fixture(autouse=True)
def nobody_else_at_work(server: PostgresUrl) -> Iterator[None]:
    """Autovacuum's transactions come when they like, and a day that is to be sealed waits for all that began before."""
    with connect(server.with_database("postgres"), autocommit=True) as admin:
        admin.execute("alter system set autovacuum = off")
        admin.execute("select pg_reload_conf()")
        yield
        admin.execute("alter system reset autovacuum")
        admin.execute("select pg_reload_conf()")


@pytest.fixture
def today(connection: Connection) -> date:
    """Today, with an entry of it and of each of 100, 91, 90 days ago and yesterday."""
    begin_a_day_if_it_is_near(timedelta(minutes=1))
    create_tenant(connection, "acme")
    [[now]] = connection.execute("select clock_timestamp()").fetchall()
    day: date = now.date()
    for days in (100, 91, 90, 1):
        with psycopg.ClientCursor(connection) as cursor:
            cursor.execute(_PAST, {"day": day - timedelta(days=days)})
    return day


def _change(connection: Connection, statement: str) -> None:
    with connection.transaction():
        connection.execute("set local session_replication_role = replica")
        connection.execute(statement.encode())


def test_the_night_seals_and_drops_and_a_tampered_log_is_left_as_evidence(
    database: Database, settings: Settings, connection: Connection, today: date
) -> None:
    definitions = dg.Definitions(
        assets=audit_assets(), resources={"database": database, "settings": settings}, executor=dg.in_process_executor
    )
    job = definitions.resolve_implicit_global_asset_job_def()

    def night() -> tuple[bool, str, list[object]]:
        result = job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)
        [check] = result.get_asset_check_evaluations()
        dropped = [
            event.materialization.metadata["days_dropped"].value
            for event in result.get_asset_materialization_events()
            if event.asset_key == dg.AssetKey("audit_retention")
        ]
        return check.passed, check.description or "", dropped

    with dg.DagsterInstance.ephemeral() as instance:
        assert night() == (True, "Every kept day is as it was sealed.", [2])
        [[actor, detail]] = connection.execute(
            "select split_part(actor, ':', 1), detail from access.audit_log where action = 'retention.drop'"
        ).fetchall()
        ends = {"from": str(today - timedelta(days=100)), "to": str(today - timedelta(days=91))}
        assert (actor, detail) == ("run", ends)
        assert night() == (True, "Every kept day is as it was sealed.", [0])

        # A whole chain made anew over another past: within the database nothing shows, Dagster was told otherwise.
        _change(connection, "update access.audit_log set actor = 'bob' where action = 'tenant.create'")
        passed, told, dropped = night()
        assert (passed, dropped) == (False, [])
        assert f"{today - timedelta(days=1)}: entry changed" in told
        _change(connection, "delete from access.audit_seals")
        passed, told, dropped = night()
        assert verify_log(connection).tampering == []
        assert (passed, dropped) == (False, [])
        assert told.startswith(f"{today - timedelta(days=1)}: seal changed: elsewhere it was told as ")


def test_the_command_line_lists_entries_and_names_what_was_changed(
    settings: Settings, connection: Connection, today: date
) -> None:
    def audit(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestration.cli", "audit", *arguments],
            cwd=PROJECT_ROOT,
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )

    listed = json.loads(audit("list", "--since", str(today - timedelta(days=2)), "--json").stdout)
    assert [(entry["action"], entry["subject"], entry["detail"]) for entry in listed] == [
        ("tenant.create", "acme", {}),
        ("tenant.create", "globex", {}),
    ]
    assert "globex" not in audit("list", "--tenant", "acme").stdout

    verified = audit("verify", "--json")
    assert (verified.returncode, json.loads(verified.stdout)["newest_seal"]) == (0, None)
    # A day waits for transactions that may have written into it, also for those of a backend that is just ending.
    while (sealing := seal_ended_days(connection, 90)).waiting is not None:
        time.sleep(0.05)
    newest = sealing.newest
    assert newest is not None
    _change(connection, "delete from access.audit_log where subject = 'globex'")
    tampered = audit("verify", "--seal", f"{newest.day}:{newest.digest.hex()}")
    assert tampered.returncode == 1
    assert f"{today - timedelta(days=1)}: entry removed: 0 entries, sealed were 1" in tampered.stdout
    assert audit("verify", "--seal", "yesterday").returncode == 2
