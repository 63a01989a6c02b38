"""`tidemark tenant`: who owns records."""

from typing import Annotated

import typer

from orchestration.commands.shared import JsonOption, console, print_json, show, transaction
from storage.tenants import create_tenant

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


@app.command("list")
def list_tenants(as_json: JsonOption = False) -> None:
    """Show the tenants."""
    with transaction() as (_, connection):
        rows = connection.execute("select tenant_id, name, created_at from access.tenants order by 1").fetchall()
    show(
        [{"tenant": row[0], "name": row[1], "created_at": row[2]} for row in rows],
        as_json,
        empty="There are none yet: tidemark tenant create NAME",
    )
