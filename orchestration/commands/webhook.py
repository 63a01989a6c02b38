"""`tidemark webhook`: who is told, and what became of it."""

from dataclasses import asdict
from typing import Annotated, Literal
from uuid import UUID

import typer

from orchestration.commands.shared import JsonOption, TenantOption, console, platform, print_json, show, transaction
from sensors.outbox import EVENT_TYPES
from sensors.webhooks import registry
from sensors.webhooks.deliveries import list_deliveries, replay_delivery
from sensors.webhooks.delivery import Options, drain
from storage.secrets import secret_box

app = typer.Typer(no_args_is_help=True, help="Webhooks: who is told of alerts.")

WebhookArgument = Annotated[UUID, typer.Argument(help="The webhook's identifier, from `webhook list`.")]
EventOption = Annotated[
    list[str] | None, typer.Option(help=f"One of {', '.join(EVENT_TYPES)}; may be repeated. All, if none.")
]
State = Literal["pending", "in_flight", "delivered", "retry", "failed", "cancelled", "parked"]
_SHOWN_ONCE = "Keep the secret now: it is not shown again."


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="https://…")],
    tenant: TenantOption,
    event: EventOption = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Register an endpoint; prints its signing secret, this once."""
    with transaction() as (opened, connection):
        webhook, secret = registry.create_webhook(
            connection,
            secret_box(opened.settings),
            tenant,
            url,
            now=opened.clock.now(),
            event_types=event or [],
            description=description,
            allowed=opened.settings.webhook_allowed_networks,
        )
    _print_secret(webhook.webhook_id, secret, as_json)


@app.command("list")
def list_(tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Show a tenant's endpoints."""
    with transaction() as (_, connection):
        rows = [asdict(webhook) for webhook in registry.list_webhooks(connection, tenant)]
    show(rows, as_json, title=f"Webhooks of {tenant}", empty="No webhooks: tidemark webhook create URL")


@app.command("show")
def show_(webhook_id: WebhookArgument, tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Show one endpoint."""
    with transaction() as (_, connection):
        _print(registry.get_webhook(connection, tenant, webhook_id), as_json)


@app.command()
def pause(webhook_id: WebhookArgument, tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Hold deliveries back; new events wait for `resume`."""
    with transaction() as (_, connection):
        webhook = registry.pause_webhook(connection, tenant, webhook_id)
    _print(webhook, as_json)


@app.command()
def resume(webhook_id: WebhookArgument, tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Deliver again, what has waited first."""
    with transaction() as (_, connection):
        webhook = registry.resume_webhook(connection, tenant, webhook_id)
    _print(webhook, as_json)


@app.command()
def delete(webhook_id: WebhookArgument, tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Forget an endpoint; what it hasn't got yet is cancelled."""
    with transaction() as (_, connection):
        webhook = registry.delete_webhook(connection, tenant, webhook_id)
    _print(webhook, as_json)


@app.command()
def rotate(webhook_id: WebhookArgument, tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Make a new signing secret.

    For 24 hours `webhook-signature` carries the old one too; `X-Webhook-Signature` has room for the new one alone.
    """
    with transaction() as (opened, connection):
        secret = registry.rotate_webhook(
            connection, secret_box(opened.settings), tenant, webhook_id, now=opened.clock.now()
        )
    _print_secret(webhook_id, secret, as_json)


@app.command("test")
def send_test(webhook_id: WebhookArgument, tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Queue a `webhook_test` event for one endpoint, on the path of all events."""
    with transaction() as (opened, connection):
        delivery_id = registry.send_test(connection, tenant, webhook_id, now=opened.clock.now())
    _print_queued(delivery_id, True, as_json)


@app.command()
def deliveries(
    webhook_id: WebhookArgument,
    tenant: TenantOption,
    state: Annotated[State | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show what was sent to an endpoint and what came back last."""
    with transaction() as (_, connection):
        rows = list_deliveries(connection, tenant, webhook_id, state=state, limit=limit)
    show(rows, as_json, title=f"Deliveries to {webhook_id}", empty="No deliveries.")


@app.command()
def replay(
    delivery_id: Annotated[UUID, typer.Argument(help="The delivery's identifier, from `webhook deliveries`.")],
    tenant: TenantOption,
    as_json: JsonOption = False,
) -> None:
    """Send a delivery again, with the same identifier and the same bytes."""
    with transaction() as (opened, connection):
        queued = replay_delivery(connection, tenant, delivery_id, now=opened.clock.now())
    _print_queued(delivery_id, queued, as_json)


@app.command()
def deliver(as_json: JsonOption = False) -> None:
    """Send what is due, of all tenants, until nothing is."""
    with platform() as opened:
        options = Options(allowed=opened.settings.webhook_allowed_networks, seconds=float("inf"))
        box = secret_box(opened.settings)
        result = drain(lambda: opened.database.connect(autocommit=True), box, opened.clock, options)
    if as_json:
        print_json(asdict(result))
    else:
        console.print(result.message().capitalize() + ".", highlight=False)


def _print(webhook: registry.Webhook, as_json: bool) -> None:
    if as_json:
        print_json(asdict(webhook))
    else:
        show([asdict(webhook)], as_json)


def _print_secret(webhook_id: UUID, secret: str, as_json: bool) -> None:
    if as_json:
        print_json({"webhook_id": webhook_id, "secret": secret})
    else:
        console.print(f"Webhook {webhook_id}\nSecret  {secret}\n{_SHOWN_ONCE}", highlight=False, soft_wrap=True)


def _print_queued(delivery_id: UUID, queued: bool, as_json: bool) -> None:
    if as_json:
        print_json({"delivery_id": delivery_id, "queued": queued})
    elif queued:
        console.print(
            f"Delivery {delivery_id} is queued; `tidemark webhook deliver` sends it at once.",
            highlight=False,
            soft_wrap=True,
        )
    else:
        console.print(f"Delivery {delivery_id} is waiting to be sent anyway.", highlight=False, soft_wrap=True)
