"""`tidemark alert`: what is firing, and looking after it."""

import getpass
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

import orjson
import typer

from orchestration.commands import notification
from orchestration.commands.shared import (
    JsonOption,
    TenantOption,
    console,
    platform,
    print_json,
    show,
    show_one,
    transaction,
)
from sensors.alerts.administration import acknowledge, list_alerts, list_notifications, resolve, show_alert
from sensors.alerts.rebaselines import end_rebaseline, list_rebaselines, rebaseline
from sensors.alerts.scan import scan
from storage.tenants import require_tenant

app = typer.Typer(no_args_is_help=True, help="Alerts: what is out of bounds.")
app.add_typer(notification.silence, name="silence")
app.add_typer(notification.inhibition, name="inhibition")
app.add_typer(notification.policy, name="policy")

AlertArgument = Annotated[UUID, typer.Argument(help="The alert's identifier, from `alert list`.")]


@dataclass
class _Totals:
    batches: int = 0
    fired: int = 0
    resolved: int = 0
    deliveries: int = 0
    held_back: int = 0


@app.command("list")
def list_(
    tenant: TenantOption,
    status: Annotated[Literal["pending", "firing", "resolved"] | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show a tenant's alerts, the newest first."""
    with transaction() as (_, connection):
        require_tenant(connection, tenant)
        rows = list_alerts(connection, tenant, status=status, limit=limit)
    if as_json:
        print_json(rows)
        return
    subject = ("alert_id", "status", "severity", "event_type", "metric", "template", "extractor_model")
    shown = (*subject, "value", "threshold", "breach_count", "started_at", "resolved_because", "acked_by")
    show(
        [{name: row[name] for name in shown} for row in rows],
        as_json,
        title=f"Alerts of {tenant}",
        empty="No alerts.",
    )


@app.command("show")
def show_(alert_id: AlertArgument, tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Show one alert: who was told, what kept it back, its evidence and the SQL that finds its number again."""
    with transaction() as (_, connection):
        row = dict(show_alert(connection, tenant, alert_id))
        notifications = list_notifications(connection, tenant, alert_id)
    if as_json:
        print_json(row | {"notifications": notifications})
        return
    evidence = row.pop("evidence")
    assert isinstance(evidence, dict)  # noqa: S101 - a jsonb object
    show_one(row)
    console.print()
    show(notifications, as_json, title="Who is told", empty="Nothing was to be told.")
    for name in ("baseline", "contributors"):
        if evidence.get(name):
            text = orjson.dumps(evidence[name], option=orjson.OPT_INDENT_2).decode()
            console.print(f"\n{name}\n{text}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"\nsql\n{evidence.get('sql', '')}", highlight=False, markup=False, soft_wrap=True)


@app.command("rebaseline")
def rebaseline_(
    alert_id: AlertArgument,
    tenant: TenantOption,
    reason: Annotated[str, typer.Option(help="Why the new level is all right; kept with it.")],
    value: Annotated[float | None, typer.Option(help="The new bound; the alert's worst value, if not given.")] = None,
    by: Annotated[str | None, typer.Option(help="Who decides so; you, if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Accept an alert's level as its subject's new normal, which ends the alert."""
    with transaction() as (opened, connection):
        made = rebaseline(
            connection,
            tenant,
            alert_id,
            reason=reason,
            author=by or getpass.getuser(),
            now=opened.clock.now(),
            bound=value,
        )
    if as_json:
        print_json(made)
    else:
        console.print(
            f"Alert {alert_id} is over: {made['bound']:g} is within bounds from now on (re-baseline "
            f"{made['rebaseline_id']}).",
            highlight=False,
            soft_wrap=True,
        )


@app.command("rebaselines")
def rebaselines_(
    tenant: TenantOption,
    end: Annotated[UUID | None, typer.Option(help="End this one: the rule's own bound holds again.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was re-baselined, the newest first, or end one of them."""
    with transaction() as (opened, connection):
        require_tenant(connection, tenant)
        if end is not None:
            end_rebaseline(connection, tenant, end, now=opened.clock.now())
        rows = list_rebaselines(connection, tenant)
    show(rows, as_json, title=f"Re-baselines of {tenant}", empty="Nothing was re-baselined.")


@app.command()
def ack(
    alert_id: AlertArgument,
    tenant: TenantOption,
    by: Annotated[str | None, typer.Option(help="Who looks after it; you, if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Note that somebody looks after an alert; it goes on firing."""
    with transaction() as (opened, connection):
        changed = acknowledge(connection, tenant, alert_id, by=by or getpass.getuser(), now=opened.clock.now())
    _say(alert_id, "acknowledged", changed, as_json, otherwise="is acknowledged already, or over")


@app.command("resolve")
def resolve_(alert_id: AlertArgument, tenant: TenantOption, as_json: JsonOption = False) -> None:
    """End an alert by hand and tell the endpoints; a later breach opens the next one."""
    with transaction() as (opened, connection):
        changed = resolve(connection, tenant, alert_id, now=opened.clock.now())
    _say(alert_id, "resolved", changed, as_json, otherwise="was over already")


@app.command("scan")
def scan_(as_json: JsonOption = False) -> None:
    """Hold everything new, of all tenants, against the thresholds, as the sensor does."""
    totals = _Totals()
    with platform() as opened, opened.database.connect(autocommit=True) as connection:
        more = True
        while more:
            result = scan(connection, opened.clock.now())
            more = result.more
            totals.batches += result.batches
            totals.fired += result.firing
            totals.resolved += result.resolved
            totals.deliveries += result.deliveries
            totals.held_back = result.held_back
    if as_json:
        print_json(vars(totals))
        return
    console.print(
        f"{totals.batches} new batches: {totals.fired} alerts fired, {totals.resolved} resolved, "
        f"{totals.deliveries} deliveries queued.",
        highlight=False,
    )
    if totals.held_back:
        console.print(f"{totals.held_back} batches wait for an older transaction that is still open.", highlight=False)


def _say(alert_id: UUID, what: str, changed: bool, as_json: bool, *, otherwise: str) -> None:
    if as_json:
        print_json({"alert_id": alert_id, "what": what, "changed": changed})
    else:
        told = f"is {what}" if changed else otherwise
        console.print(f"Alert {alert_id} {told}.", highlight=False, soft_wrap=True)
