"""Endpoints: which may be registered, whose they are, what is kept of their secrets."""

import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_network
from uuid import UUID, uuid4

import pytest
from delivering import LOOPBACK, SetClock, happen, register, send, states
from receiver import Receiver

from sensors.webhooks import registry
from sensors.webhooks.changes import change_webhook
from sensors.webhooks.deliveries import Selection, list_deliveries
from sensors.webhooks.replays import replay_delivery
from sensors.webhooks.urls import check_url
from storage.database import Connection, Database
from storage.errors import ConflictError, TidemarkError, UsageError
from storage.secrets import SecretBox
from storage.tenants import create_tenant


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("ftp://example.com/x", "https://host/path"),
        ("example.com/hook", "https://host/path"),
        ("https:///hook", "https://host/path"),
        ("https://exämple.com/", "punycode"),
        ("https://example.com/" + "x" * 2000, "at most 2000"),
        ("https://example.com:port/", "can't be read"),
        ("https://[::1/", "can't be read"),
        ("https://1.1.1.300/", "can't be read"),
        ("https://user:pass@example.com/", "verify the signature"),
        ("https://user@example.com/", "verify the signature"),
        ("https://example.com/a b", "percent-encode"),
        ("https://example.com\\@127.0.0.1/", "percent-encode"),
        ("https://example.com/\nX: y", "percent-encode"),
        ("http://example.com/hook", "use https"),
        ("https://127.0.0.1/", "loopback"),
        ("https://127.1/", "loopback"),
        ("https://2130706433/", "loopback"),
        ("https://0x7f.1/", "loopback"),
        ("https://[::1]/", "loopback"),
        ("https://[::ffff:169.254.169.254]/", "IPv4-mapped"),
        ("https://169.254.169.254/latest", "cloud metadata"),
        ("https://10.1.2.3/", "TIDEMARK_WEBHOOK_ALLOWED_NETWORKS"),
        ("http://10.1.2.3/", "TIDEMARK_WEBHOOK_ALLOWED_NETWORKS"),
    ],
)
def test_a_url_that_no_delivery_should_use_is_refused_with_the_remedy(url: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=remedy):
        check_url(url, ())


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://example.com/hook?token=1", ()),
        ("https://1.1.1.1/", ()),
        ("https://[2606:4700:4700::1111]:8443/x", ()),
        ("http://127.0.0.1:9000/hook", LOOPBACK),
        ("http://localhost:9000/hook", LOOPBACK),
        ("https://10.1.2.3/", (ip_network("10.0.0.0/8"),)),
    ],
)
def test_a_public_https_url_and_what_the_operator_allows_may_be_registered(
    url: str, allowed: tuple[object, ...]
) -> None:
    check_url(url, allowed)  # type: ignore[arg-type]


def test_another_tenants_endpoints_and_deliveries_read_as_unknown_ones(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    create_tenant(connection, "other")
    own, _ = register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "one")
    happen(connection, "other", clock, "one")
    send(database, box, clock)
    assert len(receiver.requests) == 1
    (delivery,) = list_deliveries(connection, tenant, Selection(own))
    assert registry.list_webhooks(connection, "other") == []
    unchanged = connection.execute("select status, url from alerting.webhooks").fetchall()
    for webhook_id in (own, uuid4()):
        unknown = pytest.raises(UsageError, match=f"unknown webhook {webhook_id}")
        with unknown:
            registry.get_webhook(connection, "other", webhook_id)
        with unknown:
            registry.pause_webhook(connection, "other", webhook_id)
        with unknown:
            registry.resume_webhook(connection, "other", webhook_id)
        with unknown:
            registry.delete_webhook(connection, "other", webhook_id)
        with unknown:
            registry.rotate_webhook(connection, box, "other", webhook_id, now=clock.now())
        with unknown:
            change_webhook(connection, box, "other", webhook_id, {"url": "https://example.com/"}, now=clock.now())
        with unknown:
            registry.send_test(connection, "other", webhook_id, now=clock.now())
        with unknown:
            list_deliveries(connection, "other", Selection(webhook_id))
    for delivery_id in (delivery["delivery_id"], uuid4()):
        assert isinstance(delivery_id, UUID)
        with pytest.raises(UsageError, match=f"unknown delivery {delivery_id}"):
            replay_delivery(connection, "other", delivery_id, now=clock.now())
    assert connection.execute("select status, url from alerting.webhooks").fetchall() == unchanged
    assert connection.execute("select count(*) from alerting.webhook_secrets").fetchone() == (1,)


def test_a_sealed_secret_moved_to_another_row_does_not_open_there(
    connection: Connection, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    _, secret = register(connection, box, tenant, receiver.url, clock)
    row = connection.execute("select secret_id, sealed from alerting.webhook_secrets").fetchone()
    assert row is not None
    assert box.open(bytes(row[1]), row[0]) == secret
    with pytest.raises(TidemarkError, match="TIDEMARK_SECRET_KEYS"):
        box.open(bytes(row[1]), uuid4())


def test_every_change_of_an_endpoint_leaves_its_trace_without_url_or_secret(
    connection: Connection, tenant: str, box: SecretBox, clock: SetClock
) -> None:
    url = "https://example.com/services/T0/token"
    webhook, _ = registry.create_webhook(connection, box, tenant, url, now=clock.now(), event_types=["drift_high"])
    registry.pause_webhook(connection, tenant, webhook.webhook_id)
    registry.resume_webhook(connection, tenant, webhook.webhook_id)
    registry.rotate_webhook(connection, box, tenant, webhook.webhook_id, now=clock.now())
    change_webhook(connection, box, tenant, webhook.webhook_id, {"url": url + "2"}, now=clock.now())
    registry.send_test(connection, tenant, webhook.webhook_id, now=clock.now())
    registry.delete_webhook(connection, tenant, webhook.webhook_id)
    entries = connection.execute(
        "select action, detail::text from access.audit_log where subject = %s order by entry_id",
        (str(webhook.webhook_id),),
    ).fetchall()
    assert [action for action, _ in entries] == [
        f"webhook.{action}" for action in ("create", "pause", "resume", "rotate", "change_url", "test", "delete")
    ]
    assert "token" not in str(entries)
    assert "whsec" not in str(entries)


def test_an_unknown_event_type_is_refused_naming_the_known_ones(
    connection: Connection, tenant: str, box: SecretBox, clock: SetClock
) -> None:
    with pytest.raises(UsageError, match=r"drift_hihg.*Known: drift_high"):
        registry.create_webhook(
            connection, box, tenant, "https://example.com/", now=clock.now(), event_types=["drift_hihg"]
        )


def test_an_endpoint_that_is_deleted_while_something_is_queued_for_it_leaves_nothing_open(
    connection: Connection, database: Database, tenant: str, box: SecretBox, clock: SetClock, receiver: Receiver
) -> None:
    webhook_id, _ = register(connection, box, tenant, receiver.url, clock)
    happen(connection, tenant, clock, "done")
    send(database, box, clock)
    [[done]] = connection.execute("select delivery_id from alerting.webhook_deliveries").fetchall()

    def queue(name: str) -> None:
        with database.connect(autocommit=True) as own:
            happen(own, tenant, clock, name)

    def replay() -> None:
        with database.connect(autocommit=True) as own, suppress(ConflictError):
            replay_delivery(own, tenant, done, now=clock.now())

    def beside(work: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=work)
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        before = connection.execute(waiting).fetchall()
        thread.start()
        while connection.execute(waiting).fetchall() == before:
            assert thread.is_alive()
        return thread

    with database.connect() as other, other.transaction():
        happen(other, tenant, clock, "queued before")
        deleting = beside(lambda: _delete(database, tenant, webhook_id))
    deleting.join()
    assert states(connection) == ["delivered", "cancelled"]
    connection.execute("update alerting.webhooks set status = 'active'")
    with database.connect() as other, other.transaction():
        registry.delete_webhook(other, tenant, webhook_id)
        queueing = [beside(lambda: queue("queued meanwhile")), beside(replay)]
    for thread in queueing:
        thread.join()
    assert states(connection) == ["delivered", "cancelled"]


def _delete(database: Database, tenant: str, webhook_id: UUID) -> None:
    with database.connect(autocommit=True) as own:
        registry.delete_webhook(own, tenant, webhook_id)
