"""What tests of deliveries share: a clock that is set, options for loopback, a view of the rows."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any
from uuid import UUID

from sensors.outbox import EventDraft, publish
from sensors.webhooks.delivery import DrainResult, Options, drain
from sensors.webhooks.registry import Serving, create_webhook
from sensors.webhooks.rendering import Format
from storage.clock import Clock
from storage.database import Connection, Database
from storage.secrets import SecretBox

LOOPBACK = (ip_network("127.0.0.0/8"),)


class SetClock(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        # The real hour: verifiers of Standard Webhooks refuse old timestamps.
        self.time = datetime.now(UTC).replace(microsecond=0)
        super().__init__(now=lambda: self.time)

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def move(self, **by: float) -> None:
        """Let time pass."""
        self.time += timedelta(**by)


def options(**changes: object) -> Options:
    """Options that reach loopback, with jitter from a fixed seed."""
    return replace(Options(allowed=LOOPBACK, jitter=random.Random(1)), **changes)  # type: ignore[arg-type]  # noqa: S311


def register(
    connection: Connection, box: SecretBox, tenant: str, url: str, clock: Clock, form: Format = "tidemark", **how: Any
) -> tuple[UUID, str]:
    """An endpoint on loopback, of a format and to be served as said: its identifier and its secret."""
    webhook, secret = create_webhook(
        connection, box, tenant, url, now=clock.now(), form=form, serving=Serving(**how), allowed=LOOPBACK
    )
    return webhook.webhook_id, secret


def happen(connection: Connection, tenant: str, clock: Clock, *names: str) -> None:
    """Put events into the outbox."""
    drafts = [EventDraft(tenant, "drift_high", (name,), clock.now()) for name in names]
    with connection.transaction():
        publish(connection, drafts, clock.now())


def send(database: Database, box: SecretBox, clock: Clock, **changes: object) -> DrainResult:
    """Drain once."""
    return drain(lambda: database.connect(autocommit=True), box, clock, options(**changes))


def states(connection: Connection) -> list[str]:
    """Every delivery's state, in the order of the events."""
    rows = connection.execute(
        "select state from alerting.webhook_deliveries join alerting.events using (event_id) order by seq, delivery_id"
    )
    return [row[0] for row in rows]


def attempts(connection: Connection) -> list[tuple[object, ...]]:
    """Every attempt: number, status, error, response, whether it was finished."""
    return connection.execute(
        """select attempt, status_code, error, response, finished_at is not null
           from alerting.delivery_attempts order by started_at, attempt_id"""
    ).fetchall()
