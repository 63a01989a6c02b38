"""What of an endpoint is secret, at rest: its signing keys, several alive during a rotation, and its address.

Belongs here: sealing them, bound to their rows, and opening them to deliver. Does not belong here: signing (`signing`),
the box that seals (`storage.secrets`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import dict_row

from sensors.webhooks.rendering import Format
from sensors.webhooks.signing import new_key_pair, new_secret
from storage.database import Connection
from storage.errors import TidemarkError
from storage.secrets import SecretBox

ROTATION_OVERLAP = timedelta(hours=24)
LONGEST_OVERLAP = timedelta(days=365)
# Before any moment of any machine's clock.
_ENDED = "-infinity"
# Each signs every request, in a header that has its bounds, and is opened for every claim.
MOST_LIVE = 5

_INSERT = """
insert into alerting.webhook_secrets (secret_id, tenant_id, webhook_id, sealed, public_key, valid_from)
values (%(secret_id)s, %(tenant_id)s, %(webhook_id)s, %(sealed)s, %(public_key)s, %(now)s)
"""

_EXPIRE = """
update alerting.webhook_secrets set valid_to = %(valid_to)s
where
    webhook_id = %(webhook_id)s
    and (valid_to is null or valid_to > %(valid_to)s)
    and (public_key is not null or not %(pairs_only)s)
"""

# Rotated more often than that within a day, the oldest end at once, of either kind.
_RETIRE = """
update alerting.webhook_secrets set valid_to = %(now)s
where secret_id = any(array(
    select ranked.secret_id
    from (
        select
            secret_id,
            row_number() over (partition by public_key is null order by valid_from desc, secret_id desc) as place
        from alerting.webhook_secrets
        where webhook_id = %(webhook_id)s and (valid_to is null or valid_to > %(now)s)
    ) as ranked
    where ranked.place > %(most)s
))
"""

# A secret signs from the moment it exists: valid_from only orders, since two machines' clocks may differ.
_LIVE = """
select secret_id, sealed from alerting.webhook_secrets
where webhook_id = %(webhook_id)s and (valid_to is null or valid_to > %(now)s)
order by (public_key is not null), valid_from desc, secret_id desc
"""

_ENDPOINT = "select sealed_url, format from alerting.webhooks where webhook_id = %(webhook_id)s"


@dataclass(frozen=True)
class OpenEndpoint:
    """What is needed to send to an endpoint; in memory alone, for as long as it takes.

    Attributes:
        url: where to send.
        format: what its bodies look like.
        secrets: the keys that sign now, HMAC before ed25519, the newest first.
    """

    url: str
    format: Format
    secrets: Sequence[str]


def open_endpoint(connection: Connection, box: SecretBox, webhook_id: UUID, now: datetime) -> OpenEndpoint:
    """Open an endpoint's address and the keys that sign now.

    Raises:
        TidemarkError: one of them can't be opened with this deployment's keys, or no key is alive.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_ENDPOINT, {"webhook_id": webhook_id}).fetchone()
    assert row is not None  # noqa: S101 - deliveries refer to their endpoint's row
    secrets = live_secrets(connection, box, webhook_id, now)
    if not secrets:
        raise TidemarkError("the endpoint has no live secret: `tidemark webhook rotate` makes one")
    return OpenEndpoint(box.open(bytes(row["sealed_url"]), webhook_id), row["format"], secrets)


def add_secret(connection: Connection, box: SecretBox, tenant_id: str, webhook_id: UUID, now: datetime) -> str:
    """Make an endpoint's secret; the return value is the only time it is seen."""
    secret = new_secret()
    _keep(connection, box, tenant_id, webhook_id, secret, None, now)
    return secret


def add_key_pair(connection: Connection, box: SecretBox, tenant_id: str, webhook_id: UUID, now: datetime) -> str:
    """Make an endpoint's ed25519 pair; returns the public key, the private one is never seen."""
    private, public = new_key_pair()
    _keep(connection, box, tenant_id, webhook_id, private, public, now)
    return public


def rotate_secret(
    connection: Connection,
    box: SecretBox,
    tenant_id: str,
    webhook_id: UUID,
    now: datetime,
    *,
    ed25519: bool,
    overlap: timedelta,
) -> str:
    """Add a secret, and a key pair if there is one, and let those before run out after `overlap`; five at most live.

    The caller has the endpoint's row locked: whoever signs for it has, too, so that without an overlap nothing is
    signed by those before once this is committed.
    """
    valid_to = now + overlap if overlap else _ENDED
    connection.execute(_EXPIRE, {"webhook_id": webhook_id, "valid_to": valid_to, "pairs_only": False})
    if ed25519:
        add_key_pair(connection, box, tenant_id, webhook_id, now)
    secret = add_secret(connection, box, tenant_id, webhook_id, now)
    connection.execute(_RETIRE, {"webhook_id": webhook_id, "now": now, "most": MOST_LIVE})
    return secret


def end_key_pairs(connection: Connection, webhook_id: UUID, now: datetime) -> None:
    """Let an endpoint's ed25519 keys sign no more."""
    connection.execute(_EXPIRE, {"webhook_id": webhook_id, "valid_to": now, "pairs_only": True})


def live_secrets(connection: Connection, box: SecretBox, webhook_id: UUID, now: datetime) -> list[str]:
    """The keys that sign now, HMAC secrets before ed25519 keys, the newest first.

    Raises:
        TidemarkError: one of them can't be opened with this deployment's keys.
    """
    rows = connection.execute(_LIVE, {"webhook_id": webhook_id, "now": now}).fetchall()
    return [box.open(bytes(sealed), secret_id) for secret_id, sealed in rows]


def _keep(
    connection: Connection,
    box: SecretBox,
    tenant_id: str,
    webhook_id: UUID,
    secret: str,
    public_key: str | None,
    now: datetime,
) -> None:
    secret_id = new_id(connection)
    values = {
        "secret_id": secret_id,
        "tenant_id": tenant_id,
        "webhook_id": webhook_id,
        "sealed": box.seal(secret, secret_id),
        "public_key": public_key,
        "now": now,
    }
    connection.execute(_INSERT, values)


def new_id(connection: Connection) -> UUID:
    """An identifier that a row can be sealed for before it is written."""
    [[identifier]] = connection.execute("select uuidv7()").fetchall()
    made: UUID = identifier
    return made
