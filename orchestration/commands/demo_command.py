"""`tidemark demo`: the main job on the bundled sample, told step by step."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from orchestration.commands.shared import JsonOption, console, platform, print_json, progress_console

if TYPE_CHECKING:
    from orchestration.demo.run import DemoReport

_STEPS = 13
_COLUMNS = (SpinnerColumn(), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
_LOOK_NEXT = """
Look next:  make up, then {page} (asset drift_anomalies shows the templates most in trouble)
            tidemark psql -c "select * from marts.overview"   (in .venv/bin)
            tidemark recommend --tenant demo-northwind-insurance --template claim-form
            README.md: push your own records
"""


def demo(as_json: JsonOption = False) -> None:
    """Run the whole of Tidemark on a bundled sample and a real log; exit 0 only if every part did its work."""
    from orchestration.demo.run import run_demo

    with platform() as opened, Progress(*_COLUMNS, console=progress_console, transient=True) as progress:
        task = progress.add_task("Starting", total=_STEPS)

        def step(what: str) -> None:
            progress_console.print(f"· {what}", highlight=False, soft_wrap=True)
            progress.update(task, description=what, advance=1)

        report = run_demo(opened, step)
        page = f"http://127.0.0.1:{opened.settings.dagster_port}"
    if as_json:
        print_json(_document(report))
    else:
        _tell(report, page)
    if report.problems:
        raise typer.Exit(1)


def _document(report: "DemoReport") -> dict[str, object]:
    return {
        "landed": {name: part.as_dict() | {"errors": len(part.problems)} for name, part in report.landed.items()},
        "refresh": report.refresh,
        "alerts": report.alerts,
        "webhooks": asdict(report.webhooks),
        "findings": [
            {"fact": fact.name, "planted": fact.planted, "found": finding.found, "finding": finding.words}
            for fact, finding in report.findings
        ],
        "problems": report.problems,
        "notes": report.notes,
    }


def _tell(report: "DemoReport", page: str) -> None:
    accepted = sum(part.accepted for part in report.landed.values())
    duplicates = sum(part.duplicates for part in report.landed.values())
    conflicts = sum(part.conflicts for part in report.landed.values())
    rejected = sum(part.rejected for part in report.landed.values())
    console.print(
        f"\n[bold]Landed[/]      {accepted:,} records accepted, {duplicates:,} duplicates, {conflicts} conflicts, "
        f"{rejected} rejected and kept",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"[bold]Refreshed[/]   {_refreshed(report)}", highlight=False, soft_wrap=True)
    alerts = ", ".join(f"{count} {event_type}" for event_type, count in report.alerts.items())
    console.print(f"[bold]Alerts[/]      {alerts or 'none'}", highlight=False, soft_wrap=True)
    again = " (all landed before, so the earlier deliveries were replayed)" if report.webhooks.replayed else ""
    console.print(
        f"[bold]Webhooks[/]    {report.webhooks.delivered} delivered, "
        f"{report.webhooks.verified} verified by the receiver{again}\n",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(title="Planted and found", title_justify="left")
    for name in ("", "fact", "planted", "found"):
        table.add_column(name, overflow="fold")
    for fact, finding in report.findings:
        table.add_row("✓" if finding.found else "✗", fact.name, fact.planted, finding.words)
    console.print(table)
    for note in report.notes:
        console.print(Text(f"! {note}"), soft_wrap=True)
    for problem in report.problems:
        console.print(Text(f"✗ {problem}", "red"), soft_wrap=True)
    console.print(_LOOK_NEXT.format(page=page), highlight=False, soft_wrap=True)


def _refreshed(report: "DemoReport") -> str:
    done = report.refresh
    if not done["refreshed"]:
        return "nothing was stale"
    span = f" over {done['first_day']} to {done['last_day']}" if done["first_day"] else ""
    return f"{done['assets']} assets{span}, {done['checks_passed']} checks passed, {done['checks_failed']} failed"
