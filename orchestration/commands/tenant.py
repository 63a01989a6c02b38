"""`tidemark tenant`: who owns records."""

from typing import Annotated

import typer

from orchestration.commands.shared import JsonOption, console, print_json, show, transaction
from sensors.alerts.thresholds import list_thresholds
from storage.errors import UsageError
from storage.limits import monthly_usage, set_monthly_limit
from storage.tenants import create_tenant, require_tenant, set_tier

app = typer.Typer(no_args_is_help=True, help="Tenants: who owns records.")


@app.command()
def create(
    tenant: Annotated[str, typer.Argument(help="A slug: lower-case letters, digits, - and _.")],
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a tenant; making it again changes nothing."""
    with transaction() as (_, connection):
        created = create_tenant(connection, tenant, name)
    if as_json:
        print_json({"tenant": tenant, "created": created})
    else:
        console.print(f"Tenant {tenant} {'created' if created else 'exists already'}.", highlight=False)


@app.command()
def limit(
    tenant: Annotated[str, typer.Argument(help="Whose limit this is.")],
    records_a_month: Annotated[
        str | None, typer.Option(help="Accepted records in a UTC month; none for any number. Not given: only show it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Limit what a tenant may land over the network in a month; what is above it is answered 429."""
    with transaction() as (_, connection):
        require_tenant(connection, tenant)
        if records_a_month is not None:
            records = None if records_a_month == "none" else _number(records_a_month)
            set_monthly_limit(connection, tenant, records)
        usage = monthly_usage(connection, tenant)
    if as_json:
        print_json({"tenant": tenant, "records_a_month": usage.limit, "accepted_this_month": usage.accepted})
    else:
        allowed = "any number of records" if usage.limit is None else f"{usage.limit} records"
        text = f"Tenant {tenant} may land {allowed} a month; {usage.accepted} were accepted in this one."
        console.print(text, highlight=False, soft_wrap=True)


@app.command()
def tier(
    tenant: Annotated[str, typer.Argument(help="Who goes into the tier.")],
    tier: Annotated[str, typer.Argument(help="A slug, as used with `threshold set --tier`; none for no tier.")],
    as_json: JsonOption = False,
) -> None:
    """Put a tenant into a tier; the tier's thresholds hold where the tenant has none of its own."""
    wanted = None if tier == "none" else tier
    with transaction() as (_, connection):
        set_tier(connection, tenant, wanted)
        has_rules = any(rule.tier for rule in list_thresholds(connection, tenant))
    if as_json:
        print_json({"tenant": tenant, "tier": wanted})
    else:
        told = f"of tier {wanted}" if wanted else "of no tier"
        lack = "" if wanted is None or has_rules else f", which has no thresholds yet: `threshold set --tier {wanted}`"
        console.print(f"Tenant {tenant} is {told} now{lack}.", highlight=False, soft_wrap=True)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"--records-a-month {text!r}: give a number of records, or none")
    return int(text)


@app.command("list")
def list_tenants(as_json: JsonOption = False) -> None:
    """Show the tenants, with what each may land in a month and has landed in this one."""
    with transaction() as (_, connection):
        found = connection.execute("select tenant_id, name, tier, created_at from access.tenants order by 1").fetchall()
        rows = []
        for tenant, name, tier, created_at in found:
            usage = monthly_usage(connection, tenant)
            month = {"records_a_month": usage.limit, "accepted_this_month": usage.accepted}
            rows.append({"tenant": tenant, "name": name, "tier": tier, "created_at": created_at, **month})
    show(
        rows,
        as_json,
        empty="There are none yet: tidemark tenant create NAME",
    )
