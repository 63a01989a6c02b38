"""`tidemark webhook`: who is told, and what became of it."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import typer

from orchestration.commands.shared import JsonOption, TenantOption, console, print_json, show, show_one, transaction
from orchestration.commands.webhook_deliveries import deliver, deliveries, print_queued, replay
from sensors.outbox import EVENT_TYPES
from sensors.webhooks import registry
from sensors.webhooks.changes import change_webhook
from sensors.webhooks.keys import LONGEST_OVERLAP, ROTATION_OVERLAP
from sensors.webhooks.registry import HIGHEST_RATE, MOST_IN_FLIGHT, RetryProfile, Serving
from sensors.webhooks.rendering import Format
from storage.errors import UsageError
from storage.secrets import secret_box

app = typer.Typer(no_args_is_help=True, help="Webhooks: who is told of alerts.")

WebhookArgument = Annotated[UUID, typer.Argument(help="The webhook's identifier, from `webhook list`.")]
EventOption = Annotated[
    list[str] | None, typer.Option(help=f"One of {', '.join(EVENT_TYPES)}; may be repeated. All, if none.")
]
Ed25519Option = Annotated[
    bool | None, typer.Option("--ed25519/--hmac-only", help="Whether to sign with ed25519 (v1a) too.")
]
ProfileOption = Annotated[
    RetryProfile | None,
    typer.Option(help="quick (if not said): after 1, 5 and 30 minutes; standard: over about 75 hours."),
]
InFlightOption = Annotated[
    int | None, typer.Option(min=1, max=MOST_IN_FLIGHT, help="Requests under way at once; 8 if not said.")
]
RateOption = Annotated[
    float | None, typer.Option(min=0, max=HIGHEST_RATE, help="Requests a second; 0 is no limit, as if not said.")
]
OrderedOption = Annotated[
    bool | None, typer.Option("--ordered/--unordered", help="One delivery of a subject at a time, in order.")
]
_LISTED = ("webhook_id", "url", "format", "event_types", "status", "held_back_because", "description")
_SHOWN_ONCE = "Keep the secret now: it is not shown again."


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="https://…")],
    tenant: TenantOption,
    event: EventOption = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    form: Annotated[Format, typer.Option("--format", help="What it is sent: the event, or a message.")] = "tidemark",
    ed25519: Ed25519Option = None,
    retry_profile: ProfileOption = None,
    max_in_flight: InFlightOption = None,
    rate_per_second: RateOption = None,
    ordered: OrderedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register an endpoint; prints its signing secret, this once, and never again its whole URL."""
    serving = _given(
        ed25519=ed25519,
        retry_profile=retry_profile,
        max_in_flight=max_in_flight,
        rate_per_second=rate_per_second,
        ordered=ordered,
    )
    with transaction() as (opened, connection):
        webhook, secret = registry.create_webhook(
            connection,
            secret_box(opened.settings),
            tenant,
            url,
            now=opened.clock.now(),
            event_types=event or [],
            description=description,
            form=form,
            serving=Serving(**serving),
            allowed=opened.settings.webhook_allowed_networks,
        )
    _print_secret(webhook.webhook_id, secret, as_json)


@app.command()
def change(
    webhook_id: WebhookArgument,
    tenant: TenantOption,
    url: Annotated[str | None, typer.Option(help="https://…; what is queued goes there too.")] = None,
    event: EventOption = None,
    all_events: Annotated[bool, typer.Option("--all-events", help="Tell it of all events.")] = False,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    ed25519: Ed25519Option = None,
    retry_profile: ProfileOption = None,
    max_in_flight: InFlightOption = None,
    rate_per_second: RateOption = None,
    ordered: OrderedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change where an endpoint is, what it is told and how it is served; what isn't named stays."""
    if event and all_events:
        raise UsageError("give --event or --all-events, not both")
    changes = _given(
        url=url,
        event_types=[] if all_events else event or None,
        description=description,
        ed25519=ed25519,
        retry_profile=retry_profile,
        max_in_flight=max_in_flight,
        rate_per_second=rate_per_second,
        ordered=ordered,
    )
    with transaction() as (opened, connection):
        webhook = change_webhook(
            connection,
            secret_box(opened.settings),
            tenant,
            webhook_id,
            changes,
            now=opened.clock.now(),
            allowed=opened.settings.webhook_allowed_networks,
        )
    _print(webhook, as_json)


@app.command("list")
def list_(tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Show a tenant's endpoints."""
    with transaction() as (_, connection):
        rows = [asdict(webhook) for webhook in registry.list_webhooks(connection, tenant)]
    if as_json:
        print_json(rows)
        return
    brief = [{name: _readable(row)[name] for name in _LISTED} for row in rows]
    show(brief, as_json, title=f"Webhooks of {tenant}", empty="No webhooks: tidemark webhook create URL")


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
def rotate(
    webhook_id: WebhookArgument,
    tenant: TenantOption,
    overlap_hours: Annotated[
        float,
        typer.Option(
            min=0,
            max=LONGEST_OVERLAP / timedelta(hours=1),
            help="How long the old secret signs too; 0, for one that leaked: it signs nothing from now on.",
        ),
    ] = ROTATION_OVERLAP / timedelta(hours=1),
    as_json: JsonOption = False,
) -> None:
    """Make a new signing secret.

    Meanwhile `webhook-signature` carries the old one too; `X-Webhook-Signature` has room for the new one alone.
    """
    overlap = timedelta(hours=overlap_hours)
    with transaction() as (opened, connection):
        secret = registry.rotate_webhook(
            connection, secret_box(opened.settings), tenant, webhook_id, now=opened.clock.now(), overlap=overlap
        )
    _print_secret(webhook_id, secret, as_json)


@app.command("test")
def send_test(webhook_id: WebhookArgument, tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Queue a `webhook_test` event for one endpoint, on the path of all events."""
    with transaction() as (opened, connection):
        delivery_id = registry.send_test(connection, tenant, webhook_id, now=opened.clock.now())
        webhook = registry.get_webhook(connection, tenant, webhook_id)
    print_queued(delivery_id, True, as_json, webhook=webhook)


app.command()(deliveries)
app.command()(replay)
app.command()(deliver)


def _given(**options: Any) -> Any:
    """The options that were given; a rate of 0 stands for none."""
    given = {name: value for name, value in options.items() if value is not None}
    return given | ({"rate_per_second": given["rate_per_second"] or None} if "rate_per_second" in given else {})


def _print(webhook: registry.Webhook, as_json: bool) -> None:
    if as_json:
        print_json(asdict(webhook))
    else:
        show_one(_readable(asdict(webhook)))


def _readable(row: Mapping[str, object]) -> Mapping[str, object]:
    return {**row, "event_types": row["event_types"] or "all"}


def _print_secret(webhook_id: UUID, secret: str, as_json: bool) -> None:
    if as_json:
        print_json({"webhook_id": webhook_id, "secret": secret})
    else:
        console.print(f"Webhook {webhook_id}\nSecret  {secret}\n{_SHOWN_ONCE}", highlight=False, soft_wrap=True)
