"""A producer of alerts that is killed. Guarantee: breach, transition, event, deliveries and position commit together.

The child forks for each attempt and kills itself right after its n-th statement; the last gap is the one before COMMIT.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from alert_rows import NOW, evaluation, events, forecast, push, statuses

from sensors.alerts.scan import scan
from storage.database import Connection, Database

DAY = timedelta(days=1)
HOOK = "insert into alerting.webhooks (tenant_id, url, sealed_url) values (%s, 'https://example.com/…', '')"
STATE = """
select
    (select count(*) from alerting.alerts),
    (select count(*) from alerting.alerts where status = 'firing'),
    (select count(*) from alerting.events),
    (select count(*) from alerting.webhook_deliveries),
    (select coalesce(max(next_xact_id::text::bigint), 0) from alerting.positions),
    (select count(*) from alerting.arrivals)
"""
PRODUCER = """
import os, signal, sys
from datetime import datetime
import psycopg
from sensors.alerts.scan import scan
from storage.database import connect
from storage.postgres_url import PostgresUrl

url, now = PostgresUrl.parse(os.environ["TEST_URL"]), datetime.fromisoformat(os.environ["TEST_NOW"])

def doom(last):
    done = 0
    def count():
        nonlocal done
        done += 1
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)
    class Doomed(psycopg.Cursor):
        def execute(self, *given, **named):
            result = super().execute(*given, **named)
            count()
            return result
        def executemany(self, *given, **named):
            super().executemany(*given, **named)
            count()
    return Doomed

for line in sys.stdin:
    child = os.fork()
    if not child:
        with connect(url, autocommit=True) as connection:
            connection.cursor_factory = doom(int(line))
            scan(connection, now)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class _Producer:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def dies_after(self, statement: int) -> bool:
        """Scan; whether it was killed, and not through before."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{statement}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()) == -9


@contextmanager
def producing(database: Database) -> Iterator[_Producer]:
    known = {"TEST_URL": database.platform.libpq(), "TEST_NOW": str(NOW)}
    command = [sys.executable, "-c", PRODUCER]
    with subprocess.Popen(
        command, env=os.environ | known, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield _Producer(process)
        assert process.stdin is not None
        process.stdin.close()


def _kill_everywhere(connection: Connection, producer: _Producer) -> int:
    """Kill scans of the same rows after each of their statements, until one is through; return the number of kills."""
    before = connection.execute(STATE).fetchone()
    kills = 0
    while producer.dies_after(kills + 1):
        kills += 1
        assert connection.execute(STATE).fetchone() == before, f"killed after statement {kills}"
    return kills


def test_killed_between_any_two_statements_a_producer_leaves_all_or_nothing_and_twenty_of_twenty_are_resolved(
    connection: Connection, database: Database, tenant: str
) -> None:
    connection.execute(HOOK, (tenant,))
    scan(connection, NOW)
    with producing(database) as producer:
        firing = [evaluation(n, drift_score=0.9, template=f"t{n}") for n in range(20)]
        push(connection, tenant, firing)
        forecast(connection, tenant, NOW - 2 * DAY, anomaly=True)
        assert _kill_everywhere(connection, producer) > 12
        assert statuses(connection, "drift_high") == ["firing"] * 20
        assert statuses(connection, "drift_anomaly") == ["firing"]
        healthy = [evaluation(100 + 20 * turn + n, template=f"t{n}") for turn in range(3) for n in range(20)]
        push(connection, tenant, healthy)
        forecast(connection, tenant, NOW - 2 * DAY, anomaly=False)
        assert _kill_everywhere(connection, producer) > 12
    assert statuses(connection, "drift_high") == ["firing"] * 20 + ["resolved"] * 20
    assert statuses(connection, "drift_anomaly") == ["firing", "retracted"]
    told = len(events(connection))
    assert connection.execute("select count(*) from alerting.webhook_deliveries").fetchone() == (told,)
    scan(connection, NOW)
    assert len(events(connection)) == told
