"""`tidemark report`: a tenant's marts as one file to send, to print or to keep."""

from pathlib import Path
from typing import Annotated

import typer

from orchestration.commands.shared import JsonOption, TenantOption, console, platform, print_json


def report(
    tenant: TenantOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: .html or .pdf.")],
    as_json: JsonOption = False,
) -> None:
    """Write a tenant's report, from the marts as they are: run `tidemark refresh` first for the newest."""
    from assets.reports.files import require_target, write_report
    from assets.reports.tables import read_report

    require_target(out)
    with platform() as opened, opened.database.connect(autocommit=True) as connection:
        numbers = read_report(connection, tenant)
    written = write_report(numbers, out)
    if as_json:
        print_json(
            {"path": str(written.path), "bytes": written.bytes, "as_of": written.as_of, "sha256": written.sha256}
        )
        return
    console.print(
        f"Wrote {written.path} ({written.bytes:,} bytes), as of {written.as_of}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
