"""Pushing while things die: what was acknowledged is stored, what is stored is there once, and the sums add up."""

import random
import time
from concurrent.futures import wait
from pathlib import Path

from door import serving
from poison import good, line

from benchmarks.gateway_load import Sender, free_port, gateway_process, until, with_resends
from storage.api_keys import create_key
from storage.clock import Clock
from storage.database import Connection, Database, connect
from storage.embedded import start_embedded, stop_embedded
from storage.migrate import migrate
from storage.settings import Settings
from storage.tenants import create_tenant

RECORDS, BATCH, PUSHERS = 16_000, 500, 4


def _sender(url: str, key: str, numbers: list[int]) -> Sender:
    return Sender(url, key, lambda number: line(good(number)), numbers, BATCH)


def _numbers(records: int) -> list[int]:
    """A fifth of what is sent was sent before."""
    return with_resends(records, records * 5 // 4, random.Random(7))  # noqa: S311


def _acknowledged(sender: Sender) -> set[str]:
    return {f"good-{number}" for number in set(sender.acknowledged)}


def _stored(connection: Connection) -> list[str]:
    return [row[0] for row in connection.execute("select record_id from raw.evaluations")]


def _holds(connection: Connection, sender: Sender, numbers: list[int]) -> None:
    stored = _stored(connection)
    assert len(stored) == len(set(stored))
    assert set(stored) == _acknowledged(sender) == {f"good-{number}" for number in numbers}
    # Exactly once also in the sums: an answer that was lost with its connection is replayed and not made again.
    assert sender.accepted == len(stored)
    receipts = connection.execute("select sum(accepted), sum(accepted + duplicates) from raw.ingest_batches").fetchone()
    assert receipts == (len(stored), len(numbers))


def test_a_gateway_killed_while_records_pour_in_loses_none_and_doubles_none(
    settings: Settings, connection: Connection, tenant: str
) -> None:
    _, key = create_key(connection, tenant, ["ingest"], now=Clock().now())
    port = free_port()
    numbers, chance = _numbers(RECORDS), random.Random(8)  # noqa: S311
    sender = _sender(f"http://127.0.0.1:{port}", key, numbers)
    with sender.at_work(PUSHERS) as pushing:
        for target in (2_000, 8_000):
            with gateway_process(port, {}):
                sender.until(target)
                time.sleep(chance.random() * 0.05)
            acknowledged = _acknowledged(sender)
            assert acknowledged <= set(_stored(connection))
        with gateway_process(port, {}):
            wait(pushing)
    _holds(connection, sender, numbers)


def test_a_database_restarted_while_records_pour_in_is_503_and_loses_nothing(server_folder: Path) -> None:
    data = server_folder / "postgres"
    url = start_embedded(data)
    with connect(url.with_database("postgres"), autocommit=True) as admin:
        admin.execute("create database tidemark")
    migrate(url)
    with connect(url, autocommit=True) as connection:
        create_tenant(connection, "acme")
        _, key = create_key(connection, "acme", ["ingest"], now=Clock().now())
    numbers = _numbers(RECORDS // 2)
    with serving(Database(url, url.with_database("dagster"))) as client:
        sender = _sender(str(client.base_url).rstrip("/"), key, numbers)
        with sender.at_work(PUSHERS):
            sender.until(2_000)
            stop_embedded(data)
            until(lambda: 503 in sender.statuses)
            acknowledged = _acknowledged(sender)
            start_embedded(data)
            with connect(url, autocommit=True) as connection:
                assert acknowledged <= set(_stored(connection))
    # 409 is a batch whose first attempt still waited for the database when it came again.
    assert {200, 503} <= sender.statuses <= {200, 409, 503}
    with connect(url, autocommit=True) as connection:
        _holds(connection, sender, numbers)
    stop_embedded(data)
