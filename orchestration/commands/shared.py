"""What every command shares: settings and database at hand, output for people or for scripts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestration.platform import Platform
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
    """Print rows as a table, or as a JSON array."""
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        console.print(empty)
        return
    # As Text, because a template's name may look like rich's markup.
    cells = [[Text(_shown(value)) for value in row.values()] for row in rows]
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), no_wrap=True)
    for row in cells:
        table.add_row(*row)
    needed = console.measure(table, options=console.options.update(width=_WIDEST)).maximum
    if needed <= console.width or not console.is_terminal:
        Console(width=max(needed, console.width)).print(table)
        return
    # Too wide for this terminal: one line a value, so that identifiers can be copied.
    for row in cells:
        for name, value in zip(rows[0], row, strict=True):
            console.print(Text(f"{name.replace('_', ' '):<22} ").append(value), soft_wrap=True)
        console.print()


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)


def print_json(value: object) -> None:
    """Print one JSON document on standard output."""
    # Bytes, so that neither rich nor the locale touches a script's data.
    stream = typer.get_binary_stream("stdout")
    stream.write(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    stream.flush()
