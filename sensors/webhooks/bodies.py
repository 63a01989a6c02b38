"""The bytes of a delivery: the event's own, or as rendered once and kept, so that every attempt sends the same.

Belongs here: fixing those bytes before anything is signed. Does not belong here: what they look like (`rendering`).
"""

from uuid import UUID

from sensors.webhooks.rendering import Format, render
from storage.database import Connection

# Whoever comes first decides, also when the page's address or the renderer has changed since.
_FIX = """
update alerting.webhook_deliveries set rendered = coalesce(rendered, %(rendered)s) where delivery_id = %(delivery_id)s
returning rendered
"""


def body_to_send(
    connection: Connection, delivery_id: UUID, form: Format, body: bytes, page_url: str | None = None
) -> bytes:
    """The bytes to sign and send, which must be committed before they are.

    Args:
        connection: in autocommit mode, or in the transaction that claims the delivery.
        delivery_id: whose bytes they are.
        form: the endpoint's format.
        body: the event's stored body.
        page_url: what a rendered message links to.
    """
    if form == "tidemark":
        return body
    values = {"delivery_id": delivery_id, "rendered": render(form, body, page_url)}
    [[kept]] = connection.execute(_FIX, values).fetchall()
    return bytes(kept)
