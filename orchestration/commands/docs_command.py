"""`tidemark docs`: the warehouse described on one page."""

from pathlib import Path
from typing import Annotated

import typer

from orchestration.commands.shared import JsonOption, console, platform, print_json, progress_console
from storage.errors import UsageError


def docs(
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file to write.")] = Path("tidemark-docs.html"),
    as_json: JsonOption = False,
) -> None:
    """Write dbt's documentation of the marts: columns, lineage, metrics, who reads them."""
    from assets.warehouse.docs import write_docs

    if not out.parent.is_dir():
        raise UsageError(f"{out.parent} is not a folder: make it first, or name another file with --out")
    with platform() as opened, progress_console.status("Describing the warehouse"):
        write_docs(opened.database, out)
    if as_json:
        print_json({"path": str(out), "bytes": out.stat().st_size})
    else:
        console.print(f"Wrote {out} ({out.stat().st_size // 1024} KB). Open it in a browser.", markup=False)
