"""`tidemark drop`: the drop folder by hand, and what became of its files."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from assets.drop_folder.folder import DropFolder, DroppedFile, LeftAlone
from assets.drop_folder.landing import Landed, OnBatch, land_ready
from assets.drop_folder.ledger import reports
from assets.drop_folder.looking import look, what_is_left_alone
from assets.evaluations.verdicts import Place
from orchestration.commands.shared import JsonOption, console, platform, print_json, progress_console, show
from storage.tenants import require_tenant

app = typer.Typer(no_args_is_help=True, help="Files that are laid down in the drop folder.")

_REPORTED = (
    "tenant", "path", "state", "size", "accepted", "duplicates", "conflicts", "rejected", "batches", "first_seen_at",
    "finished_at", "error",
)  # fmt: skip

AnyTenantOption = Annotated[
    str | None, typer.Option("--tenant", "-t", help="This tenant's files alone.", show_default=False)
]


@app.command("land")
def land_now(tenant: AnyTenantOption = None, as_json: JsonOption = False) -> None:
    """Land what lies there now, without waiting whether it is still being written.

    Files that have landed, and haven't changed, are passed over. Exit 1 if a file failed or a record was refused.
    """
    with platform() as opened, opened.database.connect(autocommit=True) as connection, _progress() as progress:
        folder = DropFolder(opened.settings.drop_folder_address)
        seen = look(connection, folder, opened.clock.now(), tenant=tenant, at_once=True)
        landed = land_ready(connection, folder, seen.ready, opened.clock, _teller(progress))
    if as_json:
        left_alone = [{"path": item.path, "reason": item.reason} for item in seen.left_alone]
        print_json({"files": landed.files, "left_alone": left_alone, "interrupted": landed.interrupted})
    else:
        _tell(landed, seen.left_alone)
    if landed.failed or landed.interrupted or landed.total("rejected") or landed.total("conflicts"):
        raise typer.Exit(1)


@app.command("list")
def list_files(
    tenant: AnyTenantOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest first.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show how far each file has landed, and with which verdicts."""
    with platform() as opened, opened.database.connect() as connection:
        if tenant is not None:
            require_tenant(connection, tenant)
        rows = reports(connection, tenant=tenant, limit=limit)
        left_alone = what_is_left_alone(connection, DropFolder(opened.settings.drop_folder_address), tenant)
    if as_json:
        nothing = dict.fromkeys(_REPORTED)
        left = [nothing | {"path": item.path, "state": "left_alone", "error": item.reason} for item in left_alone]
        print_json([*rows, *left])
        return
    show(rows, False, empty="No file was seen in the drop folder yet.")
    _tell_left_alone(left_alone)


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[done]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=progress_console, transient=True)


def _teller(progress: Progress) -> OnBatch:
    tasks: dict[str, TaskID] = {}

    def tell(file: DroppedFile, records: int, place: Place) -> None:
        # Of what is packed or has rows, nobody knows how much there is before its end.
        total = file.size if file.grows else None
        if file.path not in tasks:
            tasks[file.path] = progress.add_task(file.path, total=total, done="")
        progress.update(tasks[file.path], completed=place.offset if file.grows else 0, done=f"{records:,} records")

    return tell


def _tell(landed: Landed, left_alone: tuple[LeftAlone, ...]) -> None:
    for file in landed.files:
        counts = ", ".join(f"{file[name]:,} {name}" for name in ("accepted", "duplicates", "conflicts", "rejected"))
        _line(f"{file['path']}: {file['state']}: {counts}" + (f": {file['error']}" if file["error"] else ""))
        if file["rejected"] or file["conflicts"]:
            _line(f"  why: tidemark rejects list --tenant {file['tenant']}")
    for reason in landed.interrupted:
        _line(f"interrupted, and goes on at the next time: {reason}")
    _tell_left_alone(left_alone)
    if not landed.files:
        _line("No new file.")


def _tell_left_alone(left_alone: Sequence[LeftAlone]) -> None:
    for item in left_alone:
        _line(f"left alone: {item.path}: {item.reason}")


def _line(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
