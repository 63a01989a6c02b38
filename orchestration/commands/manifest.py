"""`tidemark manifest`: what a sender declares to have sent, and what became of it."""

from dataclasses import asdict
from typing import Annotated

import typer

from assets.evaluations.manifests import declare_manifest, list_manifests
from orchestration.commands.shared import JsonOption, TenantOption, console, print_json, show, transaction

app = typer.Typer(no_args_is_help=True, help="Manifests: how many records a batch should have, to compare with.")


@app.command()
def declare(
    tenant: TenantOption,
    batch_key: Annotated[str, typer.Option("--batch-key", "-b", help="The batch_key that its records carry.")],
    expected: Annotated[int, typer.Option(help="How many records it has.")],
    checksum: Annotated[
        str | None, typer.Option(help="16 hexadecimal digits: SHA-256 of each record_id, first 8 bytes, xored.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Declare a batch, before or after sending it; declaring it otherwise replaces what was declared."""
    with transaction() as (_, connection):
        manifest = declare_manifest(connection, tenant, batch_key, expected=expected, checksum=checksum)
    if as_json:
        print_json(asdict(manifest))
    else:
        console.print(f"Batch {manifest.batch_key} should have {manifest.expected} records.", highlight=False)


@app.command("list")
def list_(
    tenant: TenantOption,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest first.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show what was declared, and what the last refresh found of it."""
    with transaction() as (_, connection):
        rows = list_manifests(connection, tenant, limit=limit)
    show(rows, as_json, title=f"Batches declared by {tenant}")
