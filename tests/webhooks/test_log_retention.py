"""What of the delivery log goes and what stays, and that nothing that goes can be sent."""

import json
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from delivering import SetClock, happen, register, send
from receiver import Receiver
from typer.testing import CliRunner

from orchestration.commands import retention
from sensors.webhooks.assets import delivery_log_retention
from sensors.webhooks.deliveries import Selection, list_deliveries
from sensors.webhooks.registry import pause_webhook
from sensors.webhooks.replays import replay_deliveries, replay_delivery
from sensors.webhooks.retention import PrunedLog, prune_delivery_log
from storage.database import Connection, Database
from storage.errors import ConflictError
from storage.secrets import SecretBox
from storage.settings import Settings

_AGES = (
    "update alerting.events set created_at = created_at - %(by)s",
    "update alerting.webhook_deliveries set created_at = created_at - %(by)s",
    "update alerting.delivery_attempts set started_at = started_at - %(by)s",
)
_LEFT = """
select
    (select count(*) from alerting.events where body is not null), (select count(*) from alerting.events),
    (select count(*) from alerting.webhook_deliveries where rendered is not null),
    (select count(*) from alerting.webhook_deliveries), (select count(*) from alerting.delivery_attempts)
"""


def age(connection: Connection, **by: float) -> None:
    """Let everything in the log be that much older."""
    for statement in _AGES:
        connection.execute(statement.encode(), {"by": timedelta(**by)})


def prune(connection: Connection, clock: SetClock, **how: Any) -> PrunedLog:
    now = clock.now()
    return prune_delivery_log(connection, now - timedelta(days=30), now - timedelta(days=90), **how)


@pytest.fixture
def sent(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    """Two events that were delivered to an endpoint of Slack's, and wait for another that is paused."""
    register(connection, box, tenant, receiver.url, clock, "slack")
    happen(connection, tenant, clock, "done")
    paused, _ = register(connection, box, tenant, receiver.url, clock)
    pause_webhook(connection, tenant, paused)
    happen(connection, tenant, clock, "open")
    assert send(database, box, clock).delivered == 2


@pytest.mark.usefixtures("sent")
def test_bodies_go_first_attempts_later_and_nothing_of_what_is_open(
    connection: Connection, tenant: str, clock: SetClock
) -> None:
    hashes = connection.execute("select body_sha256 from alerting.events order by seq").fetchall()
    age(connection, days=29)
    assert prune(connection, clock) == PrunedLog(0, 0, 0)
    age(connection, days=2)
    assert prune(connection, clock, dry_run=True) == PrunedLog(1, 0, 0)
    assert connection.execute(_LEFT).fetchone() == (2, 2, 2, 3, 2)
    assert prune(connection, clock) == PrunedLog(1, 0, 0)
    assert connection.execute(_LEFT).fetchone() == (1, 2, 1, 3, 2)
    assert connection.execute("select body_sha256 from alerting.events order by seq").fetchall() == hashes
    age(connection, days=60)
    assert prune(connection, clock) == PrunedLog(0, 2, 2)
    # The event stays with its dedupe key, and the delivery that waits with its body.
    assert connection.execute(_LEFT).fetchone() == (1, 2, 0, 1, 0)
    happen(connection, tenant, clock, "done", "open")
    assert connection.execute("select count(*) from alerting.webhook_deliveries").fetchone() == (1,)
    told = connection.execute("select count(*) from access.audit_log where action = 'retention.drop'").fetchone()
    assert told == (2,)


@pytest.mark.usefixtures("sent")
def test_what_has_no_body_any_more_can_not_be_sent_again_and_says_why(
    connection: Connection, tenant: str, clock: SetClock
) -> None:
    age(connection, days=31)
    prune(connection, clock)
    without, replayable = (
        [row for row in list_deliveries(connection, tenant, Selection(state="delivered")) if row["replayable"] is has]
        for has in (False, True)
    )
    assert (len(without), len(replayable)) == (1, 1)
    with pytest.raises(ConflictError, match="TIDEMARK_WEBHOOK_BODIES_RETENTION_DAYS"):
        replay_delivery(connection, tenant, without[0]["delivery_id"], now=clock.now())  # type: ignore[arg-type]
    done = replay_deliveries(connection, tenant, Selection(state="delivered"), now=clock.now(), key="k")
    assert (done.queued, done.without_body) == (1, 1)


@pytest.mark.usefixtures("sent")
def test_a_replay_that_is_being_made_keeps_its_body(
    connection: Connection, database: Database, tenant: str, clock: SetClock
) -> None:
    age(connection, days=31)
    (delivery,) = (row for row in list_deliveries(connection, tenant, Selection(state="delivered")) if row["seq"] == 1)
    with database.connect() as replaying, database.connect(autocommit=True) as other:
        replaying.execute("select 1")  # so that its transaction lasts until the block's end
        replay_delivery(replaying, tenant, delivery["delivery_id"], now=clock.now())  # type: ignore[arg-type]
        other.execute("set lock_timeout = '200ms'")
        with pytest.raises(Exception, match="lock timeout"):
            prune(other, clock)
    assert prune(connection, clock).bodies == 0
    assert connection.execute(_LEFT).fetchone() == (2, 2, 2, 3, 2)


@pytest.mark.usefixtures("sent")
def test_the_night_and_an_operator_prune_by_the_settings(
    connection: Connection, database: Database, clock: SetClock, settings: Settings
) -> None:
    age(connection, days=31)
    result = CliRunner().invoke(retention.app, ["run", "--dry-run", "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["webhooks"] == {"bodies": 1, "attempts": 0, "deliveries": 0}
    asset = delivery_log_retention("nightly")
    materialized = dg.materialize([asset], resources={"database": database, "settings": settings, "clock": clock})
    (event,) = materialized.asset_materializations_for_node("webhook_retention")
    assert event.metadata["bodies_dropped"].value == 1
