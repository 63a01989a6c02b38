"""`tidemark push`, `feedback` and `rejects`: records in, and what was refused."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from assets.evaluations.columns import parse_mapping
from assets.evaluations.files import Format
from assets.evaluations.push import PushReport, push_file
from assets.evaluations.replay import replay
from assets.evaluations.verdicts import Kind
from orchestration.commands.shared import (
    JsonOption,
    TenantOption,
    console,
    platform,
    print_json,
    progress_console,
    show,
    transaction,
)
from orchestration.remote_push import push_file_to
from storage.errors import TidemarkError, UsageError
from storage.tenants import require_tenant
from tidemark_client import Client

Files = Annotated[list[Path], typer.Argument(help="NDJSON, CSV or Parquet files.", show_default=False)]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="The files' format; by their suffix if not given.")
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="COLUMN=FIELD", help="A CSV or Parquet column's field; `features.NAME`, or nothing."),
]

rejects = typer.Typer(no_args_is_help=True, help="Records that were refused, kept byte for byte.")

_REJECTS = """
select rejected_id, kind, verdict, line, field, code, reason, occurrences, first_received_at,
    replayed_at, substring(payload for 120) as payload_start, substring(record for 120) as record_start
from raw.rejected_records
where tenant_id = %(tenant_id)s
order by batch_id desc, line, rejected_id
limit %(limit)s
"""


def push(
    files: Files,
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Whose data this is; not with --url.")] = "",
    file_format: FormatOption = None,
    mapping: MapOption = None,
    url: Annotated[str, typer.Option("--url", help="Send over HTTP to this server, whose key tells the tenant.")] = "",
    key_env: Annotated[
        str, typer.Option("--key-env", metavar="VARIABLE", help="With --url: where the API key is (scope ingest).")
    ] = "TIDEMARK_API_KEY",
    as_json: JsonOption = False,
) -> None:
    """Land evaluation records. Pushing a file again is harmless; exit 1 if any record was refused."""
    if bool(tenant) == bool(url):
        raise UsageError("give either --tenant, to land here, or --url, to send to a server: its key tells the tenant.")
    if url:
        _push_to(url, key_env, files, file_format, mapping, as_json)
    else:
        _push(files, tenant, "evaluations", file_format, mapping, as_json)


def feedback(
    files: Files,
    tenant: TenantOption,
    file_format: FormatOption = None,
    mapping: MapOption = None,
    as_json: JsonOption = False,
) -> None:
    """Land feedback on evaluations, which may come before them. Exit 1 if any was refused."""
    _push(files, tenant, "feedback", file_format, mapping, as_json)


def _push(
    files: list[Path], tenant: str, kind: Kind, file_format: Format | None, mapping: list[str] | None, as_json: bool
) -> None:
    columns = parse_mapping(mapping or [])
    _require(files)
    reports: dict[str, PushReport] = {}
    with platform() as opened, opened.database.connect(autocommit=True) as connection, _progress() as progress:
        require_tenant(connection, tenant)
        for path in files:
            task = progress.add_task(path.name, total=None, done="")
            reports[str(path)] = push_file(
                connection,
                tenant,
                kind,
                path,
                clock=opened.clock,
                file_format=file_format,
                mapping=columns,
                on_batch=_teller(progress, task),
            )
    _conclude(reports, as_json)


def _push_to(
    url: str, key_env: str, files: list[Path], file_format: Format | None, mapping: list[str] | None, as_json: bool
) -> None:
    columns = parse_mapping(mapping or [])
    _require(files)
    key = os.environ.get(key_env, "").strip()
    if not key:
        raise UsageError(f"set {key_env} to an API key of scope ingest: tidemark key create makes one.")
    try:
        client = Client(url, key, on_reject=lambda _: None)
    except ValueError as error:
        raise UsageError(str(error)) from None
    reports: dict[str, PushReport] = {}
    with client, _progress() as progress, _telling_of_waits(progress):
        for path in files:
            task = progress.add_task(path.name, total=None, done="")
            tell = _teller(progress, task)
            reports[str(path)] = push_file_to(client, path, file_format=file_format, mapping=columns, on_batch=tell)
    _conclude(reports, as_json)


@contextmanager
def _telling_of_waits(progress: Progress) -> Iterator[None]:
    """Show what the client logs: without it, waiting for a server that is away looks like hanging."""

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = f"tidemark: {record.getMessage()}"
            progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    log, handler = logging.getLogger("tidemark_client"), Shown()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


def _require(files: list[Path]) -> None:
    for path in files:
        if not path.exists():
            raise UsageError(f"{path} does not exist. Nothing was pushed.")


def _conclude(reports: dict[str, PushReport], as_json: bool) -> None:
    _tell(reports, as_json)
    if any(report.rejected or report.conflicts for report in reports.values()):
        raise typer.Exit(1)


def _teller(progress: Progress, task: TaskID) -> Callable[[PushReport], None]:
    return lambda report: progress.update(task, done=f"{report.records:,} records")


def _progress() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[done]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=progress_console, transient=True)


def _tell(reports: dict[str, PushReport], as_json: bool) -> None:
    if as_json:
        print_json([{"file": path} | report.as_dict() for path, report in reports.items()])
        return
    for path, report in reports.items():
        console.print(
            f"{path}: {report.accepted:,} accepted, {report.duplicates:,} duplicates, "
            f"{report.conflicts:,} conflicts, {report.rejected:,} rejected",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        for problem in report.problems[:10]:
            where = f"{problem.field}: " if problem.field else ""
            console.print(
                f"  line {problem.line.number}: {problem.verdict}: {where}{problem.reason}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        hidden = report.conflicts + report.rejected - min(len(report.problems), 10)
        if hidden > 0:
            console.print(f"  … and {hidden:,} more: tidemark rejects list --tenant …", highlight=False)


@rejects.command("list")
def list_rejects(
    tenant: TenantOption,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show what was refused and why."""
    with transaction() as (_, connection):
        require_tenant(connection, tenant)
        cursor = connection.execute(_REJECTS, {"tenant_id": tenant, "limit": limit})
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
    for row in rows:
        row["payload_start"] = _readable(row["payload_start"], row.pop("record_start"))
    show(rows, as_json, empty="Nothing was refused.")


def _readable(payload: bytes, record: bytes | None) -> str:
    """What was sent, or the record that was made of it where that is binary."""
    is_binary = re.search(rb"[\x00-\x08\x0e-\x1f]", payload) is not None
    return (record if is_binary and record else payload).decode(errors="replace")


@rejects.command("replay")
def replay_rejects(
    tenant: TenantOption,
    rejected_ids: Annotated[
        list[UUID] | None, typer.Option("--id", help="Only this one, from `rejects list`; may be given again.")
    ] = None,
    code: Annotated[str | None, typer.Option(help="Only those refused with this code.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge refused records again, by today's contract, and land those that pass; exit 1 if some don't.

    Conflicts are left alone: the record that landed first stands.
    """
    with platform() as opened, opened.database.connect(autocommit=True) as connection, _progress() as progress:
        require_tenant(connection, tenant)
        task = progress.add_task("replay", total=None, done="")
        report = replay(
            connection,
            tenant,
            clock=opened.clock,
            ids=rejected_ids,
            code=code,
            on_batch=lambda so_far: progress.update(task, done=f"{so_far.accepted:,} landed"),
        )
    if as_json:
        print_json(report.as_dict())
    else:
        console.print(
            f"{report.accepted:,} accepted, {report.duplicates:,} duplicates, {report.rejected:,} still rejected",
            highlight=False,
        )
        for rejected, count in report.rejected_codes.most_common():
            console.print(f"  {count:,} {rejected}: tidemark rejects list has them, with today's reasons")
        if report.unreadable:
            console.print(
                f"{report.unreadable:,} were no records of their CSV or Parquet file: mend the file and push it again.",
                highlight=False,
            )
    if report.rejected or report.unreadable:
        raise typer.Exit(1)


@rejects.command("show")
def show_reject(
    rejected_id: Annotated[str, typer.Argument(help="The reject's id, from `rejects list`.")], tenant: TenantOption
) -> None:
    """Write one refused record to standard output, byte for byte as it was sent."""
    with transaction() as (_, connection):
        row = connection.execute(
            "select payload from raw.rejected_records where tenant_id = %s and rejected_id::text = %s",
            (tenant, rejected_id),
        ).fetchone()
    if row is None:
        raise TidemarkError(f"tenant {tenant!r} has no refused record {rejected_id}: see tidemark rejects list")
    typer.get_binary_stream("stdout").write(row[0])
