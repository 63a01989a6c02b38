"""Changing an endpoint: where it is, what it is told, how it is served. What is not named stays.

Belongs here: one call that changes all of it or nothing, with an audit entry for each kind of change. Does not belong
here: registering, pausing and deleting (`registry`). The format can't be changed: what was queued and tried in one form
must not arrive in another under the same identifier.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict
from uuid import UUID

from sensors.webhooks.addresses import Network
from sensors.webhooks.keys import add_key_pair, end_key_pairs
from sensors.webhooks.registry import (
    RetryProfile,
    Serving,
    Webhook,
    audit,
    check_event_types,
    get_webhook,
)
from sensors.webhooks.urls import check_url, masked
from storage.database import Connection
from storage.secrets import SecretBox

# Whoever changes an endpoint by hand has seen to it: it is served at once, and its breaker begins anew.
_SET_URL = """
update alerting.webhooks
set
    url = %(url)s,
    sealed_url = %(sealed_url)s,
    breaker = 'closed',
    breaker_until = null,
    failures = 0,
    trips = 0
where webhook_id = %(webhook_id)s
"""

_SET = """
update alerting.webhooks
set
    event_types = %(event_types)s,
    description = %(description)s,
    ed25519 = %(ed25519)s,
    retry_profile = %(retry_profile)s,
    max_in_flight = %(max_in_flight)s,
    rate_per_second = %(rate_per_second)s,
    ordered = %(ordered)s
where webhook_id = %(webhook_id)s
"""


class Changes(TypedDict, total=False):
    """What to change; see `Webhook` and `Serving`. No event types mean all of them."""

    url: str
    event_types: Sequence[str]
    description: str
    ed25519: bool
    retry_profile: RetryProfile
    max_in_flight: int
    rate_per_second: float | None
    ordered: bool


def change_webhook(
    connection: Connection,
    box: SecretBox,
    tenant_id: str,
    webhook_id: UUID,
    changes: Changes,
    *,
    now: datetime,
    allowed: Sequence[Network] = (),
) -> Webhook:
    """Change an endpoint; what is queued follows it to another address.

    Raises:
        UsageError: an unknown endpoint or event type, a number out of bounds, or an address that webhooks must not
            reach.
    """
    with connection.transaction():
        webhook = get_webhook(connection, tenant_id, webhook_id)
        if "url" in changes:
            _change_url(connection, box, webhook, changes["url"], allowed)
        if changes.keys() - {"url"}:
            _change_rest(connection, box, webhook, changes, now)
        return get_webhook(connection, tenant_id, webhook_id)


def _change_url(connection: Connection, box: SecretBox, webhook: Webhook, url: str, allowed: Sequence[Network]) -> None:
    check_url(url, allowed)
    sealed = box.seal(url, webhook.webhook_id)
    connection.execute(_SET_URL, {"webhook_id": webhook.webhook_id, "url": masked(url), "sealed_url": sealed})
    audit(connection, webhook, "change_url", {"url": masked(url)})


def change_interest(
    connection: Connection,
    tenant_id: str,
    webhook_id: UUID,
    *,
    event_types: Sequence[str] | None = None,
    description: str | None = None,
) -> Webhook:
    """Change what an endpoint is told and how it is described, for which no secret is opened; None leaves as it is.

    Raises:
        UsageError: an unknown endpoint or event type.
    """
    changes: Changes = {}
    if event_types is not None:
        changes["event_types"] = event_types
    if description is not None:
        changes["description"] = description
    with connection.transaction():
        _write(connection, get_webhook(connection, tenant_id, webhook_id), changes)
        return get_webhook(connection, tenant_id, webhook_id)


def _change_rest(connection: Connection, box: SecretBox, webhook: Webhook, changes: Changes, now: datetime) -> None:
    _write(connection, webhook, changes)
    wanted = changes.get("ed25519", webhook.ed25519)
    if wanted and not webhook.ed25519:
        add_key_pair(connection, box, webhook.tenant_id, webhook.webhook_id, now)
    if webhook.ed25519 and not wanted:
        end_key_pairs(connection, webhook.webhook_id, now)


def _write(connection: Connection, webhook: Webhook, changes: Changes) -> None:
    event_types = changes.get("event_types", webhook.event_types)
    check_event_types(event_types)
    serving = Serving(
        ed25519=changes.get("ed25519", webhook.ed25519),
        retry_profile=changes.get("retry_profile", webhook.retry_profile),
        max_in_flight=changes.get("max_in_flight", webhook.max_in_flight),
        rate_per_second=changes.get("rate_per_second", webhook.rate_per_second),
        ordered=changes.get("ordered", webhook.ordered),
    )
    values = vars(serving) | {
        "webhook_id": webhook.webhook_id,
        "event_types": sorted(set(event_types)),
        "description": changes.get("description", webhook.description),
    }
    connection.execute(_SET, values)
    told = {name: value for name, value in values.items() if name in changes and name != "description"}
    audit(connection, webhook, "change", told)
