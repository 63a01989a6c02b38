"""Signing secrets at rest: sealed, bound to their rows, several alive during a rotation.

Does not belong here: signing (`signing`), the box that seals (`storage.secrets`).
"""

from datetime import datetime, timedelta
from uuid import UUID

from sensors.webhooks.signing import new_secret
from storage.database import Connection
from storage.secrets import SecretBox

ROTATION_OVERLAP = timedelta(hours=24)

_INSERT = """
insert into alerting.webhook_secrets (secret_id, tenant_id, webhook_id, sealed, valid_from)
values (%(secret_id)s, %(tenant_id)s, %(webhook_id)s, %(sealed)s, %(now)s)
"""

_EXPIRE = """
update alerting.webhook_secrets set valid_to = %(valid_to)s
where webhook_id = %(webhook_id)s and (valid_to is null or valid_to > %(valid_to)s)
"""

# A secret signs from the moment it exists: valid_from only orders, since two machines' clocks may differ.
_LIVE = """
select secret_id, sealed from alerting.webhook_secrets
where webhook_id = %(webhook_id)s and (valid_to is null or valid_to > %(now)s)
order by valid_from desc, secret_id desc
"""


def add_secret(connection: Connection, box: SecretBox, tenant_id: str, webhook_id: UUID, now: datetime) -> str:
    """Make an endpoint's secret; the return value is the only time it is seen."""
    row = connection.execute("select uuidv7()").fetchone()
    secret_id = row[0] if row else None
    secret = new_secret()
    connection.execute(
        _INSERT,
        {
            "secret_id": secret_id,
            "tenant_id": tenant_id,
            "webhook_id": webhook_id,
            "sealed": box.seal(secret, secret_id),
            "now": now,
        },
    )
    return secret


def rotate_secret(connection: Connection, box: SecretBox, tenant_id: str, webhook_id: UUID, now: datetime) -> str:
    """Add a secret and let those before it run out after 24 hours."""
    connection.execute(_EXPIRE, {"webhook_id": webhook_id, "valid_to": now + ROTATION_OVERLAP})
    return add_secret(connection, box, tenant_id, webhook_id, now)


def live_secrets(connection: Connection, box: SecretBox, webhook_id: UUID, now: datetime) -> list[str]:
    """The secrets that sign now, the newest first.

    Raises:
        TidemarkError: one of them can't be opened with this deployment's keys.
    """
    rows = connection.execute(_LIVE, {"webhook_id": webhook_id, "now": now}).fetchall()
    return [box.open(bytes(sealed), secret_id) for secret_id, sealed in rows]
