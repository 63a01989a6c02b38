"""What begins to exist while a build runs is left to the next build, and fails none."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mart_records import empty_marts, evaluation, push, rows_of

from assets.warehouse.build import run_dbt
from storage.database import Connection, Database
from storage.tenants import create_tenant

_PATIENCE_SECONDS = 60
_QUIET_SECONDS = 0.5
_WAITING = "select from pg_locks where relation = %s::regclass and not granted"
_AT_WORK = """
select from pg_stat_activity
where application_name like 'tidemark-dbt%' and state <> 'idle' and wait_event_type is distinct from 'Lock'
"""
_ALERT = """
insert into alerting.alerts (tenant_id, event_type, template, epoch, status, severity, metric, value, threshold,
    breach_count, window_start, window_end, started_at)
values ('globex', 'template_new', 'brand new', 1, 'firing', 'info', 'count', 1, 0, 1, now(), now(), now())
"""


@contextmanager
def held_at(relation: str, database: Database, connection: Connection) -> Iterator[None]:
    """A build that waits for a table while the block runs, and then ends well."""
    failures: list[Exception] = []

    def build() -> None:
        try:
            run_dbt(["run"], database)
        except Exception as failure:
            failures.append(failure)

    with database.connect() as blocker:
        blocker.execute(f"lock table {relation} in access exclusive mode")  # type: ignore[arg-type]
        thread = threading.Thread(target=build)
        thread.start()
        until = time.monotonic() + _PATIENCE_SECONDS
        quiet_since = time.monotonic()
        # What doesn't wait for this table is through when nothing has been at work for a while.
        while time.monotonic() - quiet_since < _QUIET_SECONDS:
            assert time.monotonic() < until, f"no build came to {relation}"
            time.sleep(0.02)
            is_waiting = connection.execute(_WAITING, (relation,)).fetchone() is not None
            if not is_waiting or connection.execute(_AT_WORK).fetchone() is not None:
                quiet_since = time.monotonic()
        yield
    thread.join()
    assert not failures, failures


@pytest.mark.begins(after=empty_marts)
def test_a_template_first_seen_and_a_tenant_made_during_a_build_fail_nothing_and_are_in_the_next(
    database: Database, connection: Connection, tenant: str
) -> None:
    push(connection, tenant, "evaluations", [evaluation()])
    run_dbt(["run"], database)
    with held_at("intermediate.int_batches", database, connection):
        push(connection, tenant, "evaluations", [evaluation(template="new")])
    assert {row["template"] for row in rows_of(connection, "marts.drift_history")} == {"invoice", "new"}
    with held_at("marts.recent_alerts", database, connection):
        create_tenant(connection, "globex")
        push(connection, "globex", "evaluations", [evaluation(template="brand new")])
        connection.execute(_ALERT)
    with held_at("marts.overview", database, connection):
        create_tenant(connection, "initech")
    with held_at("marts.batch_reconciliation", database, connection):
        create_tenant(connection, "hooli")
        connection.execute("insert into raw.batch_manifests (tenant_id, batch_key, expected) values ('hooli', 'b', 1)")
    run_dbt(["run"], database)
    [alert] = rows_of(connection, "marts.recent_alerts")
    assert (alert["tenant_id"], alert["template"], alert["template_id"] is None) == ("globex", "brand new", False)
    assert {row["tenant_id"] for row in rows_of(connection, "marts.overview")} == {tenant, "globex", "initech", "hooli"}
    assert [row["tenant_id"] for row in rows_of(connection, "marts.batch_reconciliation")] == ["hooli"]
