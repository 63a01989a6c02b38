"""Endpoints: registered, listed, paused, deleted; each change with its audit entry.

Belongs here: rows of `alerting.webhooks`. Does not belong here: changing how one is served (`changes`), which URLs may
be registered (`urls`), their secrets (`keys`), their deliveries (`deliveries`, `delivery`). Another tenant's endpoint
reads as unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from psycopg.rows import class_row

from sensors.outbox import EVENT_TYPES, EventDraft, publish
from sensors.webhooks.addresses import Network
from sensors.webhooks.keys import (
    LONGEST_OVERLAP,
    ROTATION_OVERLAP,
    add_key_pair,
    add_secret,
    new_id,
    rotate_secret,
)
from sensors.webhooks.rendering import Format
from sensors.webhooks.urls import check_url, masked
from storage.audit import record_audit
from storage.database import Connection
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.secrets import SecretBox
from storage.tenants import require_tenant

_COLUMNS = """
    webhook_id, tenant_id, url, format, event_types, status, description, ed25519,
    array(
        select public_key from alerting.webhook_secrets as keys
        where
            keys.webhook_id = webhooks.webhook_id
            and public_key is not null
            and (valid_to is null or valid_to > clock_timestamp())
        order by valid_from desc, secret_id desc
    ) as public_keys,
    retry_profile, max_in_flight, rate_per_second, ordered,
    case when status = 'active' and breaker <> 'closed' then breaker_reason end as held_back_because,
    case when status = 'active' and breaker <> 'closed' then breaker_until end as held_back_until,
    created_at
"""

_SELECT = f"""
select {_COLUMNS} from alerting.webhooks
where
    tenant_id = %(tenant_id)s
    and status <> 'deleted'
    and (%(webhook_id)s::uuid is null or webhook_id = %(webhook_id)s)
    and (%(after_at)s::timestamptz is null or (created_at, webhook_id) > (%(after_at)s, %(after_id)s::uuid))
order by created_at, webhook_id
limit %(limit)s
"""  # noqa: S608 - a constant

_INSERT = """
insert into alerting.webhooks
    (webhook_id, tenant_id, url, sealed_url, format, event_types, description, ed25519, retry_profile, max_in_flight,
     rate_per_second, ordered, created_at)
values
    (%(webhook_id)s, %(tenant_id)s, %(url)s, %(sealed_url)s, %(format)s, %(event_types)s, %(description)s,
     %(ed25519)s, %(retry_profile)s, %(max_in_flight)s, %(rate_per_second)s, %(ordered)s, %(now)s)
"""

# Whoever changes an endpoint by hand has seen to it: it is served at once, and its breaker begins anew.
_SET_STATUS = """
update alerting.webhooks
set status = %(status)s, breaker = 'closed', breaker_until = null, failures = 0, trips = 0
where tenant_id = %(tenant_id)s and webhook_id = %(webhook_id)s
"""

# Against whoever is queuing something for it, now or again (`sensors.outbox`, `replays`), or signs for it (`claims`).
_KEEP_OUT = "select from alerting.webhooks where webhook_id = %(webhook_id)s for update"

_CANCEL = """
update alerting.webhook_deliveries set state = 'cancelled', lease_until = null
where webhook_id = %(webhook_id)s and state in ('pending', 'in_flight', 'retry', 'parked')
"""

Status = Literal["active", "paused", "disabled", "deleted"]


RetryProfile = Literal["quick", "standard"]
MOST_IN_FLIGHT = 100
HIGHEST_RATE = 1000.0


@dataclass(frozen=True)
class Serving:
    """How an endpoint wants to be served.

    Attributes:
        ed25519: whether requests carry an ed25519 signature (`v1a`) beside HMAC.
        retry_profile: `quick`: after 1, 5 and 30 minutes; `standard`: over about 75 hours.
        max_in_flight: requests under way at once, 1 to 100.
        rate_per_second: requests a second, at most 1000; None is no limit.
        ordered: one delivery of a subject at a time, in the order of the events.
    """

    ed25519: bool = False
    retry_profile: RetryProfile = "quick"
    max_in_flight: int = 8
    rate_per_second: float | None = None
    ordered: bool = False

    def __post_init__(self) -> None:
        """Refuse what the database would.

        Raises:
            UsageError: naming the field.
        """
        if not 1 <= self.max_in_flight <= MOST_IN_FLIGHT:
            raise UsageError(f"max_in_flight: {self.max_in_flight} is not from 1 to {MOST_IN_FLIGHT}")
        if self.rate_per_second is not None and not 0 < self.rate_per_second <= HIGHEST_RATE:
            raise UsageError(
                f"rate_per_second: {self.rate_per_second:g} is not above 0 and at most {HIGHEST_RATE:g}; "
                "without a rate there is no limit"
            )


@dataclass(frozen=True)
class Webhook:
    """One endpoint of a tenant; empty `event_types` means all.

    Attributes:
        url: as it is shown, scheme and host: path and query may be secrets and are never told again.
        public_keys: what verifies `v1a` signatures now, the newest first.
        held_back_because: what opened the breaker, though the endpoint is active; None while it is closed. For what
            else see `Serving`.
        held_back_until: when one request tries the endpoint.
    """

    webhook_id: UUID
    tenant_id: str
    url: str
    format: Format
    event_types: list[str]
    status: Status
    description: str
    ed25519: bool
    public_keys: list[str]
    retry_profile: RetryProfile
    max_in_flight: int
    rate_per_second: float | None
    ordered: bool
    held_back_because: str | None
    held_back_until: datetime | None
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
    form: Format = "tidemark",
    serving: Serving | None = None,
    allowed: Sequence[Network] = (),
) -> tuple[Webhook, str]:
    """Register an endpoint; returns it with its signing secret, which is shown this once.

    Raises:
        UsageError: an unknown tenant or event type, or an address that webhooks must not reach.
    """
    require_tenant(connection, tenant_id)
    check_url(url, allowed)
    check_event_types(event_types)
    serving = serving or Serving()
    with connection.transaction():
        webhook_id = new_id(connection)
        connection.execute(
            _INSERT,
            {
                "webhook_id": webhook_id,
                "tenant_id": tenant_id,
                "url": masked(url),
                "sealed_url": box.seal(url, webhook_id),
                "format": form,
                "event_types": sorted(set(event_types)),
                "description": description,
                **vars(serving),
                "now": now,
            },
        )
        if serving.ed25519:
            add_key_pair(connection, box, tenant_id, webhook_id, now)
        secret = add_secret(connection, box, tenant_id, webhook_id, now)
        webhook = get_webhook(connection, tenant_id, webhook_id)
        audit(connection, webhook, "create", {"url": webhook.url, "format": form, "event_types": webhook.event_types})
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
        connection.execute(_KEEP_OUT, {"webhook_id": webhook_id})
        webhook = _change(connection, tenant_id, webhook_id, "deleted", "delete")
        connection.execute(_CANCEL, {"webhook_id": webhook_id})
    return webhook


def rotate_webhook(
    connection: Connection,
    box: SecretBox,
    tenant_id: str,
    webhook_id: UUID,
    *,
    now: datetime,
    overlap: timedelta = ROTATION_OVERLAP,
) -> str:
    """Give an endpoint a new signing secret, shown this once; the old one goes on signing for the overlap.

    Args:
        connection: whatever its mode; one transaction.
        box: seals the secret.
        tenant_id: whose endpoint it is.
        webhook_id: the endpoint.
        now: aware.
        overlap: at most 365 days; 0, for a secret that leaked: the old one signs nothing once this is committed.

    Raises:
        UsageError: the tenant has no such endpoint, or the overlap is out of bounds.
    """
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise UsageError(
            f"the overlap must be from 0 to {LONGEST_OVERLAP.days} days; 0 lets the old secret sign no more at once"
        )
    with connection.transaction():
        connection.execute(_KEEP_OUT, {"webhook_id": webhook_id})
        webhook = get_webhook(connection, tenant_id, webhook_id)
        secret = rotate_secret(connection, box, tenant_id, webhook_id, now, ed25519=webhook.ed25519, overlap=overlap)
        audit(connection, webhook, "rotate", {"overlap_hours": overlap / timedelta(hours=1)})
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
        audit(connection, webhook, "test", {})
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
        return cursor.execute(_SELECT.encode(), values).fetchall()


def _change(connection: Connection, tenant_id: str, webhook_id: UUID, status: Status, action: str) -> Webhook:
    with connection.transaction():
        webhook = get_webhook(connection, tenant_id, webhook_id)
        values = {"tenant_id": tenant_id, "webhook_id": webhook_id, "status": status}
        connection.execute(_SET_STATUS, values)
        audit(connection, webhook, action, {"from": webhook.status, "to": status})
    return replace(webhook, status=status, held_back_because=None, held_back_until=None)


def audit(connection: Connection, webhook: Webhook, action: str, detail: Mapping[str, object]) -> None:
    """Note what was done to an endpoint, in the caller's transaction."""
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
