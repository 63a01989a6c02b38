"""Endpoints with a format, sealed addresses and a choice of signatures; what of the delivery log need not be kept."""

from alembic import op
from sqlalchemy import Connection, text

from storage.migrations import run_sql
from storage.secrets import secret_box
from storage.settings import load_settings

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)
    _seal_addresses(op.get_bind())
    op.execute("alter table alerting.webhooks alter column sealed_url set not null")


def _seal_addresses(connection: Connection) -> None:
    """Endpoints that are there already: only this process has the key, so SQL alone can't do it."""
    rows = connection.execute(text("select webhook_id, url from alerting.webhooks")).fetchall()
    if not rows:
        return
    box = secret_box(load_settings())
    kept = connection.execute(text("select secret_id, sealed from alerting.webhook_secrets limit 1")).fetchall()
    for secret in kept:
        # With another key than the deployment's, no address could be opened later.
        box.open(bytes(secret.sealed), secret.secret_id)
    for webhook in rows:
        sealed = box.seal(webhook.url, webhook.webhook_id)
        connection.execute(
            text("update alerting.webhooks set sealed_url = :sealed, url = :shown where webhook_id = :webhook_id"),
            {"sealed": sealed, "shown": _masked(webhook.url), "webhook_id": webhook.webhook_id},
        )


def _masked(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}/…"
