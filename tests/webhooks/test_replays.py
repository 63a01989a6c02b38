"""Dead letters: found, sent again one by one or all of a kind, and each once however often that is asked for."""

import json
from datetime import timedelta

import dagster as dg
import pytest
from delivering import SetClock, happen, register, send, states
from receiver import Receiver, answer

from sensors.webhooks.assets import replay_webhook_deliveries
from sensors.webhooks.deliveries import Selection, list_deliveries
from sensors.webhooks.registry import delete_webhook
from sensors.webhooks.replays import Replayed, replay_deliveries
from storage.database import Connection, Database
from storage.errors import UsageError
from storage.secrets import SecretBox
from storage.tenants import create_tenant

GONE = "update alerting.webhook_deliveries set state = 'failed', next_attempt_at = now(), attempt_count = 4"


@pytest.fixture
def dead(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> Receiver:
    """A receiver that has three dead letters coming, of another tenant one more."""
    create_tenant(connection, "other")
    register(connection, box, tenant, receiver.url, clock)
    register(connection, box, "other", receiver.url, clock)
    happen(connection, tenant, clock, "one", "two", "three")
    happen(connection, "other", clock, "theirs")
    connection.execute(GONE)
    return receiver


def test_all_dead_letters_are_sent_again_once_however_often_that_is_asked_for(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, dead: Receiver
) -> None:
    failed = Selection(state="failed")
    before = [row["delivery_id"] for row in list_deliveries(connection, tenant, failed)]
    assert replay_deliveries(connection, tenant, failed, now=clock.now(), dry_run=True) == Replayed(3, 0, 0)
    assert states(connection) == ["failed"] * 4
    assert replay_deliveries(connection, tenant, failed, now=clock.now()) == Replayed(3, 0, 0)
    assert replay_deliveries(connection, tenant, failed, now=clock.now()) == Replayed(0, 0, 0)
    assert send(database, box, clock).delivered == 3
    assert {request.delivery_id for request in dead.requests} == set(map(str, before))
    stored = connection.execute("select body from alerting.events where tenant_id = %s order by seq", (tenant,))
    assert {request.body for request in dead.requests} == {bytes(row[0]) for row in stored}
    assert states(connection) == ["delivered"] * 3 + ["failed"]
    [[detail]] = connection.execute(
        "select detail::text from access.audit_log where action = 'webhook.replay_range'"
    ).fetchall()
    assert json.loads(detail) == {"state": "failed", "queued": 3}


def test_what_was_delivered_is_sent_again_once_for_each_key(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, dead: Receiver
) -> None:
    delivered = Selection(state="delivered")
    replay_deliveries(connection, tenant, Selection(state="failed"), now=clock.now())
    send(database, box, clock)
    with pytest.raises(UsageError, match="key: what was delivered"):
        replay_deliveries(connection, tenant, delivered, now=clock.now())
    arrived = "select array_agg(first_delivered_at order by delivery_id) from alerting.webhook_deliveries"
    first = connection.execute(arrived).fetchall()
    assert None not in first[0][0][:3]
    clock.move(days=1)
    for key, queued in (("incident-1", 3), ("incident-1", 0), ("incident-2", 3)):
        assert replay_deliveries(connection, tenant, delivered, now=clock.now(), key=key).queued == queued
        send(database, box, clock)
    assert len(dead.requests) == 9
    assert connection.execute(arrived).fetchall() == first, "an endpoint's health tells of when it arrived"
    assert len({(request.delivery_id, request.body) for request in dead.requests}) == 3


@pytest.mark.usefixtures("dead")
def test_a_range_is_of_a_time_a_type_and_an_endpoint_and_never_of_one_that_is_deleted(
    connection: Connection, tenant: str, box: SecretBox, clock: SetClock
) -> None:
    connection.execute(
        """update alerting.webhook_deliveries set created_at = created_at - interval '2 days'
           where event_id in (select event_id from alerting.events where tenant_id = %s order by seq limit 1)""",
        (tenant,),
    )

    def found(**chosen: object) -> int:
        selection = Selection(state="failed", **chosen)  # type: ignore[arg-type]
        counted = replay_deliveries(connection, tenant, selection, now=clock.now(), dry_run=True).queued
        assert len(list_deliveries(connection, tenant, selection)) == counted
        return counted

    yesterday = clock.now() - timedelta(days=1)
    assert (found(since=yesterday), found(until=yesterday)) == (2, 1)
    assert (found(event_type="drift_high"), found(event_type="webhook_test")) == (3, 0)
    other, _ = register(connection, box, tenant, "https://example.com/", clock)
    assert found(webhook_id=other) == 0
    for wrong, named in (
        (Selection(state="pending"), "state: pending"),
        (Selection(state="failed", since=yesterday, until=yesterday), "since"),
        (Selection(state="failed", event_type="drift_hihg"), "Known: drift_high"),
    ):
        with pytest.raises(UsageError, match=named):
            replay_deliveries(connection, tenant, wrong, now=clock.now())
    [[hook]] = connection.execute(
        "select distinct webhook_id from alerting.webhook_deliveries where tenant_id = %s", (tenant,)
    ).fetchall()
    delete_webhook(connection, tenant, hook)
    done = replay_deliveries(connection, tenant, Selection(state="failed"), now=clock.now())
    assert done.queued == 0


def test_a_job_sends_dead_letters_again_and_repeating_its_run_sends_nothing_twice(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, dead: Receiver
) -> None:
    dead.behaviour = answer(410)
    config = {"ops": {"queue_again": {"config": {"tenant": tenant, "state": "failed", "key": "launch-1"}}}}

    def run(**changes: object) -> dg.ExecuteInProcessResult:
        changed = config["ops"]["queue_again"]["config"] | changes
        return replay_webhook_deliveries.execute_in_process(
            run_config={"ops": {"queue_again": {"config": changed}}},
            resources={"database": database, "clock": clock},
            raise_on_error=False,
        )

    assert run().success
    assert states(connection) == ["pending"] * 3 + ["failed"]
    connection.execute(GONE)
    assert run().success
    assert states(connection) == ["failed"] * 4
    assert not run(state="pending").success
    assert not run(since="2026-05-01T00:00:00").success
    [[actor]] = connection.execute(
        "select actor from access.audit_log where action = 'webhook.replay_range'"
    ).fetchall()
    assert actor.startswith("run:")
