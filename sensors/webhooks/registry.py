"""Endpoints: registered, listed, paused, deleted; each change with its audit entry.

Belongs here: rows of `alerting.webhooks`. Does not belong here: which URLs may be registered (`urls`), their secrets
(`keys`), their deliveries (`deliveries`, `delivery`). Another tenant's endpoint reads as unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit
from uuid import UUID

from psycopg.rows import class_row

from sensors.outbox import EVENT_TYPES, EventDraft, publish
from sensors.webhooks.addresses import Network
from sensors.webhooks.keys import add_secret, rotate_secret
from sensors.webhooks.urls import check_url
from storage.audit import record_audit
from storage.database import Connection
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.secrets import SecretBox
from storage.tenants import require_tenant

_SELECT = """
select webhook_id, tenant_id, url, event_types, status, description, created_at from alerting.webhooks
where
    tenant_id = %(tenant_id)s
    and status <> 'deleted'
    and (%(webhook_id)s::uuid is null or webhook_id = %(webhook_id)s)
    and (%(after_at)s::timestamptz is null or (created_at, webhook_id) > (%(after_at)s, %(after_id)s::uuid))
order by created_at, webhook_id
limit %(limit)s
"""

_INSERT = """
insert into alerting.webhooks (tenant_id, url, event_types, description, created_at)
values (%(tenant_id)s, %(url)s, %(event_types)s, %(description)s, %(now)s)
returning webhook_id, tenant_id, url, event_types, status, description, created_at
"""

# Whoever changes an endpoint by hand has seen to it: it is served at once, and its breaker begins anew.
_SET_STATUS = """
update alerting.webhooks
set status = %(status)s, breaker = 'closed', breaker_until = null, failures = 0, trips = 0
where tenant_id = %(tenant_id)s and webhook_id = %(webhook_id)s
"""

_CANCEL = """
update alerting.webhook_deliveries set state = 'cancelled', lease_until = null
where webhook_id = %(webhook_id)s and state in ('pending', 'in_flight', 'retry', 'parked')
"""

_SET_URL = """
update alerting.webhooks
set url = %(url)s, breaker = 'closed', breaker_until = null, failures = 0, trips = 0
where tenant_id = %(tenant_id)s and webhook_id = %(webhook_id)s
"""

_SET_INTEREST = """
update alerting.webhooks set event_types = %(event_types)s, description = %(description)s
where tenant_id = %(tenant_id)s and webhook_id = %(webhook_id)s
"""

Status = Literal["active", "paused", "disabled", "deleted"]


@dataclass(frozen=True)
class Webhook:
    """One endpoint of a tenant; empty `event_types` means all."""

    webhook_id: UUID
    tenant_id: str
    url: str
    event_types: list[str]
    status: Status
    description: str
    created_at: datetime


def create_webhook(
    connection: Connection,
    box: SecretBox,
    tenant_id: str,
    url: str,
    *,
    now: datetime,
    event_types: Sequence[str] = (),
    description: str = "",
    allowed: Sequence[Network] = (),
) -> tuple[Webhook, str]:
    """Register an endpoint; returns it with its signing secret, which is shown this once.

    Raises:
        UsageError: an unknown tenant or event type, or an address that webhooks must not reach.
    """
    require_tenant(connection, tenant_id)
    check_url(url, allowed)
    check_event_types(event_types)
    with connection.transaction(), connection.cursor(row_factory=class_row(Webhook)) as cursor:
        webhook = cursor.execute(
            _INSERT,
            {
                "tenant_id": tenant_id,
                "url": url,
                "event_types": sorted(set(event_types)),
                "description": description,
                "now": now,
            },
        ).fetchone()
        assert webhook is not None  # noqa: S101 - an insert returns its row or raises
        secret = add_secret(connection, box, tenant_id, webhook.webhook_id, now)
        # The host alone: path and query of an endpoint may be secrets themselves.
        detail = {"host": urlsplit(url).hostname, "event_types": webhook.event_types}
        _audit(connection, webhook, "create", detail)
    return webhook, secret


def list_webhooks(
    connection: Connection, tenant_id: str, *, after: tuple[datetime, UUID] | None = None, limit: int | None = None
) -> list[Webhook]:
    """A tenant's endpoints, the oldest first, without deleted ones; `after` a `created_at` and `webhook_id`."""
    require_tenant(connection, tenant_id)
    return _select(connection, tenant_id, after=after, limit=limit)


def get_webhook(connection: Connection, tenant_id: str, webhook_id: UUID) -> Webhook:
    """One endpoint.

    Raises:
        UsageError: the tenant has none of this identifier.
    """
    found = _select(connection, tenant_id, webhook_id=webhook_id)
    if not found:
        raise NotFoundError("webhook", webhook_id, f"`tidemark webhook list --tenant {tenant_id}` shows them")
    return found[0]


def pause_webhook(connection: Connection, tenant_id: str, webhook_id: UUID) -> Webhook:
    """Hold deliveries back; new ones go on being queued and wait."""
    return _change(connection, tenant_id, webhook_id, "paused", "pause")


def resume_webhook(connection: Connection, tenant_id: str, webhook_id: UUID) -> Webhook:
    """Deliver again, also to an endpoint that was disabled because it answered 410."""
    return _change(connection, tenant_id, webhook_id, "active", "resume")


def delete_webhook(connection: Connection, tenant_id: str, webhook_id: UUID) -> Webhook:
    """Forget an endpoint: what it hasn't got yet is cancelled; the log of its deliveries stays."""
    with connection.transaction():
        webhook = _change(connection, tenant_id, webhook_id, "deleted", "delete")
        connection.execute(_CANCEL, {"webhook_id": webhook_id})
    return webhook


def change_url(
    connection: Connection, tenant_id: str, webhook_id: UUID, url: str, *, allowed: Sequence[Network] = ()
) -> Webhook:
    """Point an endpoint elsewhere; what is queued goes there too.

    Raises:
        UsageError: an unknown endpoint, or an address that webhooks must not reach.
    """
    check_url(url, allowed)
    with connection.transaction():
        webhook = get_webhook(connection, tenant_id, webhook_id)
        connection.execute(_SET_URL, {"tenant_id": tenant_id, "webhook_id": webhook_id, "url": url})
        _audit(connection, webhook, "change_url", {"host": urlsplit(url).hostname})
    return replace(webhook, url=url)


def change_interest(
    connection: Connection,
    tenant_id: str,
    webhook_id: UUID,
    *,
    event_types: Sequence[str] | None = None,
    description: str | None = None,
) -> Webhook:
    """Change which events an endpoint is told, or how it is described; None leaves as it is, no types mean all.

    Raises:
        UsageError: an unknown endpoint or event type.
    """
    check_event_types(event_types or ())
    with connection.transaction():
        webhook = get_webhook(connection, tenant_id, webhook_id)
        changed = replace(
            webhook,
            event_types=webhook.event_types if event_types is None else sorted(set(event_types)),
            description=webhook.description if description is None else description,
        )
        connection.execute(_SET_INTEREST, vars(changed))
        _audit(connection, webhook, "change", {"event_types": changed.event_types})
    return changed


def rotate_webhook(connection: Connection, box: SecretBox, tenant_id: str, webhook_id: UUID, *, now: datetime) -> str:
    """Give an endpoint a new signing secret, shown this once; the old one goes on signing for 24 hours."""
    with connection.transaction():
        webhook = get_webhook(connection, tenant_id, webhook_id)
        secret = rotate_secret(connection, box, tenant_id, webhook_id, now)
        _audit(connection, webhook, "rotate", {})
    return secret


def send_test(connection: Connection, tenant_id: str, webhook_id: UUID, *, now: datetime) -> UUID:
    """Queue a `webhook_test` event for one endpoint, on the path of all events; returns the delivery's identifier."""
    with connection.transaction():
        webhook = get_webhook(connection, tenant_id, webhook_id)
        if webhook.status == "disabled":
            raise ConflictError(f"webhook {webhook_id} is disabled: resume it first with `tidemark webhook resume`")
        draft = EventDraft(tenant_id, "webhook_test", (str(webhook_id), _nonce(connection)), now)
        published = publish(connection, [draft], now, only_webhook=webhook_id)
        row = connection.execute(
            "select delivery_id from alerting.webhook_deliveries join alerting.events using (event_id) where seq = %s",
            (published.last_seq,),
        ).fetchone()
        assert row is not None  # noqa: S101 - the endpoint exists and isn't disabled
        _audit(connection, webhook, "test", {})
    delivery_id: UUID = row[0]
    return delivery_id


def check_event_types(event_types: Sequence[str]) -> None:
    """Refuse event types that don't exist.

    Raises:
        UsageError: naming those that do.
    """
    unknown = sorted(set(event_types) - set(EVENT_TYPES))
    if unknown:
        raise UsageError(f"unknown event type {', '.join(unknown)}. Known: {', '.join(EVENT_TYPES)}")


def _select(
    connection: Connection,
    tenant_id: str,
    *,
    webhook_id: UUID | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int | None = None,
) -> list[Webhook]:
    after_at, after_id = after or (None, None)
    values = {
        "tenant_id": tenant_id,
        "webhook_id": webhook_id,
        "after_at": after_at,
        "after_id": after_id,
        "limit": limit,
    }
    with connection.cursor(row_factory=class_row(Webhook)) as cursor:
        return cursor.execute(_SELECT, values).fetchall()


def _change(connection: Connection, tenant_id: str, webhook_id: UUID, status: Status, action: str) -> Webhook:
    with connection.transaction():
        webhook = get_webhook(connection, tenant_id, webhook_id)
        values = {"tenant_id": tenant_id, "webhook_id": webhook_id, "status": status}
        connection.execute(_SET_STATUS, values)
        _audit(connection, webhook, action, {"from": webhook.status, "to": status})
    return replace(webhook, status=status)


def _audit(connection: Connection, webhook: Webhook, action: str, detail: Mapping[str, object]) -> None:
    record_audit(
        connection,
        tenant_id=webhook.tenant_id,
        action=f"webhook.{action}",
        subject=str(webhook.webhook_id),
        detail=detail,
    )


def _nonce(connection: Connection) -> str:
    row = connection.execute("select gen_random_uuid()").fetchone()
    return str(row[0]) if row else ""
