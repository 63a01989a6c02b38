"""`tidemark config`: thresholds, inhibitions, policy and webhooks as one file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestration.commands.shared import JsonOption, console, platform, print_json, transaction
from sensors.configuration.applying import Applied, apply, compare, export, seal, try_out
from sensors.configuration.document import Document, read_document
from storage.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Configuration as one versioned, checksummed file.")

FileArgument = Annotated[Path, typer.Argument(help="The file, from `config export`.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Although it isn't sealed, or what is deployed has been changed since.")
]


@app.command("export")
def export_(
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Whose; else the defaults of all.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; standard output, if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what is deployed as a file, without secrets."""
    with transaction() as (_, connection):
        text = export(connection, tenant)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    if as_json:
        document = read_document(text)
        print_json({"checksum": document.checksum, **document.content})
    elif out is None:
        typer.echo(text, nl=False)
    else:
        console.print(f"Written to {out}.", highlight=False, markup=False)


@app.command("seal")
def seal_(file: FileArgument, as_json: JsonOption = False) -> None:
    """Check a file that was changed, and give it the checksum of what it says now."""
    document = _read(file)
    with transaction() as (_, connection):
        text = seal(connection, document)
    file.write_text(text, encoding="utf-8")
    sealed = read_document(text).checksum
    if as_json:
        print_json({"checksum": sealed, "was": document.checksum})
    else:
        console.print(f"{file}: {sealed}", highlight=False, markup=False, soft_wrap=True)


@app.command("apply")
def apply_(
    file: FileArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change and fire.")] = False,
    days: Annotated[int, typer.Option(min=1, max=30, help="Of --dry-run: so many days are replayed.")] = 7,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make what is deployed what a file says, all of it or nothing."""
    document = _read(file)
    if dry_run:
        with platform() as opened, opened.database.connect(autocommit=True) as connection:
            applied = compare(connection, document, force=force)
            report = try_out(connection, document, days=days, now=opened.clock.now()).report()
        _print_trial(applied, report, as_json)
        return
    with transaction() as (_, connection):
        applied = apply(connection, document, force=force)
    if as_json:
        print_json(_row(applied, applied=True))
        return
    _print_changes(applied)
    if applied.changes:
        console.print(f"Applied: {applied.after}", highlight=False, soft_wrap=True)


def _read(file: Path) -> Document:
    try:
        return read_document(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} can't be read: {error}") from None


def _row(change: Applied, **more: object) -> Mapping[str, object]:
    return {"from": change.before, "to": change.after, "changes": list(change.changes), **more}


def _print_trial(applied: Applied, report: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(_row(applied, applied=False, dry_run=report))
        return
    _print_changes(applied)
    for name, told in (("deployed", report["deployed"]), ("this file", report["proposed"])):
        counts = f"{told.get('firing', 0)} fired, {told.get('resolved', 0)} resolved"
        console.print(f"{name:<10} {counts} since {report['since']:%F %R}", highlight=False)
    for title, name in (("would fire", "would_fire_besides"), ("would not fire", "would_not_fire")):
        for one in report[name]:
            subject = "/".join(
                one[part] for part in ("tenant_id", "event_type", "metric", "template", "extractor_model") if one[part]
            )
            console.print(f"{title:<15} {subject} at {one['window_start']:%F %R}", highlight=False, markup=False)
    console.print(_verdict(report), highlight=False, soft_wrap=True)
    for one in report["not_compared"]:
        told = f"not compared    {one['what']}: {one['reason']}"
        console.print(told, highlight=False, markup=False, soft_wrap=True)


def _verdict(report: Mapping[str, Any]) -> str:
    compared, differences = report["compared"], len(report["differences"])
    if report["not_compared"] and not compared and not differences:
        return "The replay of the deployed rules has nothing to be compared with:"
    verdict = "equals" if report["deployed_replay_equals_log"] else "DIFFERS FROM"
    return f"The replay of the deployed rules {verdict} the log: {compared} transitions compared, {differences} differ."


def _print_changes(applied: Applied) -> None:
    if not applied.changes:
        console.print("Nothing differs from what is deployed.")
    for change in applied.changes:
        sign = "+" if change["from"] is None else "-" if change["to"] is None else "~"
        console.print(f"{sign} {change['section']}: {change['entry']}", highlight=False, markup=False)
        before, after = _members(change["from"]), _members(change["to"])
        for name in sorted(before.keys() | after.keys()) if sign == "~" else ():
            if before.get(name) != after.get(name):
                console.print(f"    {name}: {before.get(name)} -> {after.get(name)}", highlight=False, markup=False)


def _members(entry: object) -> Mapping[str, object]:
    return entry if isinstance(entry, Mapping) else {}
