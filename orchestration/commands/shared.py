"""What every command shares: settings and database at hand, output for people or for scripts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestration.platform import Platform
from sensors.configuration.document import format_duration
from storage.clock import Clock
from storage.database import Connection, open_database
from storage.settings import load_settings

_WIDEST = 10_000

console = Console()
progress_console = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
TenantOption = Annotated[str, typer.Option("--tenant", "-t", help="Whose data this is.")]


@contextmanager
def platform() -> Iterator[Platform]:
    """Read the settings, find or start PostgreSQL, migrate."""
    settings = load_settings()
    yield Platform(settings, open_database(settings), Clock())


@contextmanager
def transaction() -> Iterator[tuple[Platform, Connection]]:
    """The platform with a connection whose work is committed at the end of the block."""
    with platform() as opened, opened.database.connect() as connection:
        yield opened, connection


def show(rows: Sequence[Mapping[str, object]], as_json: bool, *, title: str | None = None, empty: str = "none") -> None:
    """Print rows as a JSON array, or as a table without the columns that say nothing in any row."""
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        console.print(empty)
        return
    names = [name for name in rows[0] if any(shown(row[name]) for row in rows)]
    # As Text, because a template's name may look like rich's markup.
    cells = [[Text(shown(row[name])) for name in names] for row in rows]
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name.replace("_", " "), no_wrap=True)
    for line in cells:
        table.add_row(*line)
    needed = console.measure(table, options=console.options.update(width=_WIDEST)).maximum
    if needed <= console.width or not console.is_terminal:
        Console(width=max(needed, console.width)).print(table)
        return
    # Too wide for this terminal: one line a value, so that identifiers can be copied.
    for row in rows:
        show_one(row)
        console.print()


def show_one(row: Mapping[str, object]) -> None:
    """Print one thing, a line for each value that it has."""
    for name, value in row.items():
        if text := shown(value):
            console.print(Text(f"{name.replace('_', ' '):<22} ").append(text), soft_wrap=True)


def shown(value: object) -> str:
    """A value as people read it; empty for what isn't there."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, timedelta):
        return format_duration(value)
    return "" if value is None else str(value).rstrip()


def print_json(value: object) -> None:
    """Print one JSON document on standard output."""
    # Bytes, so that neither rich nor the locale touches a script's data.
    stream = typer.get_binary_stream("stdout")
    stream.write(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    stream.flush()
