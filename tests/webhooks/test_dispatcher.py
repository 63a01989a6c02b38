"""The dispatcher as a process: it hears of what lands and delivers it, and outlives what PostgreSQL does to it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from alert_rows import evaluation, push
from delivering import SetClock, happen, register
from receiver import Receiver

from sensors.backlog import read_backlog
from storage.clock import Clock
from storage.database import Connection, Database
from storage.secrets import SecretBox
from storage.settings import PROJECT_ROOT

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
_CUT = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and query ilike %(query)s
"""


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@contextmanager
def dispatching(database: Database, home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    environment = os.environ | database.environment
    environment |= {
        "TIDEMARK_HOME": str(home),
        "TIDEMARK_SECRET_KEYS": KEY,
        "TIDEMARK_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    command = [sys.executable, "-m", "sensors.dispatcher"]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_what_lands_is_judged_and_delivered_though_every_connection_is_cut_again_and_again(
    connection: Connection, database: Database, tenant: str, box: SecretBox, receiver: Receiver, tmp_path: Path
) -> None:
    clock = SetClock()
    register(connection, box, tenant, receiver.url, clock)
    with dispatching(database, tmp_path) as process:
        listening = "select from pg_stat_activity where query ilike 'listen %tidemark_batches%'"
        for number, cut in enumerate((None, "listen %", "%webhook%", "%"), start=1):
            if cut is not None:
                connection.execute(_CUT, {"query": cut})
            until(lambda: connection.execute(listening).fetchone() is not None, "LISTEN")
            now = datetime.now(UTC)
            record = evaluation(number, at=now, template=f"template-{number}", drift_score=0.9)
            push(connection, tenant, [record], now)
            until(lambda wanted=2 * number: _told(receiver) >= wanted, "template_new and drift_high")  # type: ignore[misc]
        assert read_backlog(connection).dispatcher_seen_at is not None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert len({request.delivery_id for request in receiver.requests}) == 8


def test_a_dispatcher_that_is_asked_to_end_writes_down_what_was_under_way(
    connection: Connection, database: Database, tenant: str, box: SecretBox, receiver: Receiver, tmp_path: Path
) -> None:
    register(connection, box, tenant, receiver.url, SetClock())
    with dispatching(database, tmp_path) as process:

        def ending(handler: object, _: object) -> None:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            handler.send_response(204)  # type: ignore[attr-defined]
            handler.end_headers()  # type: ignore[attr-defined]

        receiver.behaviour = ending  # type: ignore[assignment]
        happen(connection, tenant, Clock(), "one")
        assert process.wait(60) == 0
    assert connection.execute("select state from alerting.webhook_deliveries").fetchall() == [("delivered",)]


def _told(receiver: Receiver) -> int:
    return len({request.delivery_id for request in receiver.requests})
