"""`tidemark webhook deliveries|replay|deliver`: what became of events, and sending them again."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from orchestration.commands.shared import JsonOption, TenantOption, console, platform, print_json, show, transaction
from sensors.webhooks.deliveries import Selection, State, endpoint_of, list_deliveries
from sensors.webhooks.delivery import Options, drain
from sensors.webhooks.registry import Webhook
from sensors.webhooks.replays import Over, Replayed, replay_deliveries, replay_delivery
from storage.errors import UsageError
from storage.secrets import secret_box

_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
StateOption = Annotated[State | None, typer.Option(help="Only these; failed are the dead letters.")]
EventTypeOption = Annotated[str | None, typer.Option("--event", help="Only deliveries of such events.")]
SinceOption = Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Queued at this time (UTC) or later.")]
UntilOption = Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Queued before this time (UTC).")]


def deliveries(
    tenant: TenantOption,
    webhook_id: Annotated[UUID | None, typer.Argument(help="Only those to this webhook.")] = None,
    state: StateOption = None,
    event: EventTypeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show what was sent, to one endpoint or to all, and what came back last."""
    chosen = Selection(webhook_id, state, event, _utc(since), _utc(until))
    with transaction() as (_, connection):
        rows = list_deliveries(connection, tenant, chosen, limit=limit)
    show(rows, as_json, title=f"Deliveries to {webhook_id or tenant}", empty="No deliveries.")


def replay(
    tenant: TenantOption,
    delivery_id: Annotated[
        UUID | None, typer.Argument(help="One delivery's identifier, from `webhook deliveries`; else --state.")
    ] = None,
    state: Annotated[Over | None, typer.Option(help="All of these.")] = None,
    webhook: Annotated[UUID | None, typer.Option(help="Only those to this webhook.")] = None,
    event: EventTypeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    key: Annotated[
        str | None,
        typer.Option(help="Names this replay: nothing is sent again twice with it. --state delivered needs one."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Send one delivery again, or all of a kind, each with the same identifier and the same bytes."""
    if delivery_id is not None:
        if any((state, webhook, event, since, until, key, dry_run)):
            raise UsageError("give a delivery's identifier or say which deliveries by --state and the like, not both")
        with transaction() as (opened, connection):
            queued = replay_delivery(connection, tenant, delivery_id, now=opened.clock.now())
            webhook_of_it = endpoint_of(connection, tenant, delivery_id)
        print_queued(delivery_id, queued, as_json, webhook=webhook_of_it)
        return
    if state is None:
        raise UsageError("give a delivery's identifier, or --state failed to send all dead letters again")
    chosen = Selection(webhook, state, event, _utc(since), _utc(until))
    with transaction() as (opened, connection):
        replayed = replay_deliveries(connection, tenant, chosen, now=opened.clock.now(), key=key, dry_run=dry_run)
    if as_json:
        print_json(asdict(replayed) | {"dry_run": dry_run})
    else:
        console.print(_told(replayed, dry_run), highlight=False, soft_wrap=True)


def deliver(as_json: JsonOption = False) -> None:
    """Send what is due, of all tenants, until nothing is."""
    with platform() as opened:
        settings = opened.settings
        options = Options(allowed=settings.webhook_allowed_networks, seconds=float("inf"), page_url=settings.page_url)
        box = secret_box(settings)
        result = drain(lambda: opened.database.connect(autocommit=True), box, opened.clock, options)
    if as_json:
        print_json(asdict(result))
    else:
        console.print(result.message().capitalize() + ".", highlight=False)


def print_queued(delivery_id: UUID, queued: bool, as_json: bool, *, webhook: Webhook) -> None:
    """Tell of one delivery to an endpoint that is queued, or was already."""
    waits = _waits(webhook)
    if as_json:
        print_json({"delivery_id": delivery_id, "queued": queued})
    elif queued:
        console.print(
            f"Delivery {delivery_id} is queued; "
            + (waits or "a running dispatcher sends it at once, `tidemark webhook deliver` where none runs")
            + ".",
            highlight=False,
            soft_wrap=True,
        )
    else:
        told = f"Delivery {delivery_id} is waiting to be sent anyway" + (f"; {waits}" if waits else "")
        console.print(f"{told}.", highlight=False, soft_wrap=True)


def _waits(webhook: Webhook) -> str:
    """Why an endpoint is sent nothing now; empty if it is."""
    if webhook.status != "active":
        why = f"is {webhook.status}"
    elif webhook.held_back_because is not None:
        tried = "" if webhook.held_back_until is None else f" until it is tried at {webhook.held_back_until:%H:%M} UTC"
        why = f"is held back ({webhook.held_back_because}), so it is parked{tried}"
    else:
        return ""
    return f"its endpoint {why}: `tidemark webhook resume {webhook.webhook_id} --tenant {webhook.tenant_id}` sends it"


def _told(replayed: Replayed, dry_run: bool) -> str:
    one = replayed.queued == 1
    verb = "would be" if dry_run else "is" if one else "are"
    told = f"{replayed.queued} {'delivery' if one else 'deliveries'} {verb} queued again."
    if replayed.without_body:
        told += f" {replayed.without_body} can't be: their bodies are no longer kept."
    if replayed.left:
        told += f" {replayed.left} more are left to another call."
    return told


def _utc(time: datetime | None) -> datetime | None:
    return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)
