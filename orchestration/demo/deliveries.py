"""The demo's webhooks: one endpoint a tenant, at a receiver on this machine that verifies what it is sent.

Belongs here: registering, delivering, replaying and counting. Does not belong here: signing, sending.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from orchestration.demo.receiver import Receiver
from orchestration.platform import Platform
from sensors.webhooks.changes import change_webhook
from sensors.webhooks.deliveries import Selection, list_deliveries
from sensors.webhooks.delivery import Options, drain
from sensors.webhooks.keys import live_secrets
from sensors.webhooks.registry import create_webhook, list_webhooks
from sensors.webhooks.replays import replay_delivery
from storage.database import Connection
from storage.secrets import secret_box

_DESCRIPTION = "demo receiver"
_MOST_DELIVERIES = 10_000
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Delivered:
    """How many were delivered, how many of them the receiver verified, how many failed, whether all are replays."""

    delivered: int = 0
    verified: int = 0
    failed: int = 0
    replayed: bool = False


class DemoWebhooks:
    """The endpoints of the demo's tenants.

    Args:
        connection: in autocommit mode.
        opened: the deployment; its settings allow the receiver's network.
        receiver: where they point to.
        tenant_ids: whose they are.
    """

    def __init__(self, connection: Connection, opened: Platform, receiver: Receiver, tenant_ids: Sequence[str]) -> None:
        self._connection = connection
        self._opened = opened
        self._receiver = receiver
        self._tenant_ids = tenant_ids
        self._box = secret_box(opened.settings)
        self._webhooks: dict[str, UUID] = {}

    def register(self) -> None:
        """Make the endpoints; those of an earlier demo are kept and pointed at this receiver."""
        for tenant_id in self._tenant_ids:
            path = f"/{tenant_id}"
            url, allowed = self._receiver.url(path), self._opened.settings.webhook_allowed_networks
            known = [hook for hook in list_webhooks(self._connection, tenant_id) if hook.description == _DESCRIPTION]
            if known:
                webhook_id = known[0].webhook_id
                change_webhook(
                    self._connection,
                    self._box,
                    tenant_id,
                    webhook_id,
                    {"url": url},
                    now=self._opened.clock.now(),
                    allowed=allowed,
                )
            else:
                created, _ = create_webhook(
                    self._connection,
                    self._box,
                    tenant_id,
                    url,
                    now=self._opened.clock.now(),
                    description=_DESCRIPTION,
                    allowed=allowed,
                )
                webhook_id = created.webhook_id
            self._webhooks[tenant_id] = webhook_id
            for secret in live_secrets(self._connection, self._box, webhook_id, self._opened.clock.now()):
                self._receiver.trust(path, secret)

    def deliver(self) -> Delivered:
        """Deliver what is due, or what was delivered before if nothing is."""
        deliveries = [
            (tenant_id, delivery)
            for tenant_id, webhook_id in self._webhooks.items()
            for delivery in list_deliveries(self._connection, tenant_id, Selection(webhook_id), limit=_MOST_DELIVERIES)
        ]
        replayed = all(delivery["state"] == "delivered" for _, delivery in deliveries)
        for tenant_id, delivery in deliveries:
            if replayed or delivery["state"] in ("retry", "failed"):
                delivery_id = UUID(str(delivery["delivery_id"]))
                replay_delivery(self._connection, tenant_id, delivery_id, now=self._opened.clock.now())
        result = drain(
            partial(self._opened.database.connect, autocommit=True),
            self._box,
            self._opened.clock,
            Options(allowed=self._opened.settings.webhook_allowed_networks),
        )
        self._receiver.wait_for_events(result.delivered, _PATIENCE_SECONDS)
        return Delivered(result.delivered, len(self._receiver.events), result.retried + result.failed, replayed)
