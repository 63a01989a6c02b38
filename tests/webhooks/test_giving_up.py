"""What waits behind an endpoint that doesn't come back is given up after seven days, and can be sent again."""

import json
from datetime import timedelta

import pytest
from delivering import SetClock, attempts, happen, register, send, states
from receiver import Receiver, answer, receiving

from sensors.health import read_delivery_health
from sensors.webhooks import giving_up
from sensors.webhooks.deliveries import Selection
from sensors.webhooks.giving_up import GIVE_UP_AFTER, give_up
from sensors.webhooks.registry import pause_webhook, resume_webhook
from sensors.webhooks.replays import replay_deliveries
from sensors.webhooks.schedule import MAX_JITTER, PROFILES
from storage.database import Connection, Database
from storage.secrets import SecretBox


def test_it_is_longer_than_any_delivery_would_have_been_tried() -> None:
    assert all(sum(delays, timedelta()) * (1 + MAX_JITTER) < GIVE_UP_AFTER for delays in PROFILES.values())


def test_after_seven_days_without_one_success_what_waits_is_dead_told_once_and_can_be_sent_again(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    clock: SetClock,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(giving_up, "_AT_ONCE", 4)
    with receiving(answer(404)) as dead:
        webhook_id, _ = register(connection, box, tenant, dead.url, clock, max_in_flight=1)
        register(connection, box, tenant, receiver.url, clock)
        happen(connection, tenant, clock, *map(str, range(10)))
        send(database, box, clock)
        began = clock.now()
        assert states(connection).count("parked") == 9
        clock.move(days=4)
        happen(connection, tenant, clock, "later")
        send(database, box, clock)  # a probe, which fails as well
        assert give_up(connection, clock.now()) == 0
        clock.move(days=3, seconds=1)
        requests = len(dead.requests)
        send(database, box, clock)
        assert len(dead.requests) == requests + 1, "the probes go on"
        counted = {state: states(connection).count(state) for state in ("failed", "parked")}
        assert counted == {"failed": 9, "parked": 1}
        assert len(attempts(connection)) == 3 + len(receiver.requests), "what is given up has spent no attempt"
        told = [json.loads(request.body) for request in receiver.requests]
        (ended,) = [body["metric"] for body in told if body["metric"]["name"] == "deliveries_given_up"]
        assert (ended["value"], ended["window_start"][:19]) == (9, began.isoformat()[:19])
        health = read_delivery_health(connection, clock.now())
        assert health.failed_last_day == 9
        assert f"held back since {began:%Y-%m-%d %H:%M} UTC (it answered 404)" in health.problems[0]
        clock.move(days=1)
        send(database, box, clock)
        dead.behaviour = answer(200)
        clock.move(days=1)
        assert send(database, box, clock).delivered >= 1
        again = replay_deliveries(connection, tenant, Selection(webhook_id, "failed"), now=clock.now())
        assert again.queued == 10, "and the one that was the probe until its own attempts were used up"
        send(database, box, clock)
    assert {request.delivery_id for request in dead.requests} >= {
        str(row[0])
        for row in connection.execute(
            "select delivery_id from alerting.webhook_deliveries where webhook_id = %s", (webhook_id,)
        )
    }
    audited = connection.execute(
        "select detail ->> 'deliveries' from access.audit_log where action = 'webhook.give_up'"
    )
    assert audited.fetchall() == [("9",)]


def test_a_paused_endpoints_deliveries_wait_and_a_resumption_begins_the_days_anew(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    receiver.behaviour = answer(404)
    webhook_id, _ = register(connection, box, tenant, receiver.url, clock, max_in_flight=1)
    happen(connection, tenant, clock, *map(str, range(5)))
    send(database, box, clock)
    pause_webhook(connection, tenant, webhook_id)
    clock.move(days=30)
    assert give_up(connection, clock.now()) == 0
    resume_webhook(connection, tenant, webhook_id)
    send(database, box, clock)
    assert states(connection).count("parked") >= 3
    assert "failed" not in states(connection)
    clock.move(days=8)
    assert give_up(connection, clock.now()) >= 3
