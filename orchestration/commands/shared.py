"""What every command shares: settings and database at hand, output for people or for scripts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from orchestration.platform import Platform
from storage.clock import Clock
from storage.database import Connection, open_database
from storage.settings import load_settings

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
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console.print(table)


def print_json(value: object) -> None:
    """Print one JSON document on standard output."""
    console.print(
        orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode(),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
