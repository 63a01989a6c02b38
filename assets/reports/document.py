"""What a report looks like before it is a page: sections of words, panels and tables, the same for HTML and PDF.

Belongs here: the shapes that compose.py fills and that html_page.py and pdf_pages.py render. Does not belong here:
either side's knowledge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Draw = Callable[[Any], None]
"""Draws into matplotlib's axes. Draws no name that a tenant chose: no font has all of them."""


@dataclass(frozen=True)
class Column:
    """A table's column: of names, which may break, of numbers, or of words such as a date.

    `weight` is its share of the width where widths are not found by a browser.
    """

    header: str
    weight: float = 1.0
    kind: Literal["name", "number", "word"] = "name"


@dataclass(frozen=True)
class Table:
    """Rows of text under headers; the first column names the row."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Panel:
    """One picture: `title` names its subject, `alt` says in words what it shows, `table` lists what it shows."""

    title: str
    alt: str
    draw: Draw
    table: Table | None = None
    is_wide: bool = False
    number: int | None = None


@dataclass(frozen=True)
class Section:
    """A heading, what to know first, the pictures, the tables, and what was left out."""

    title: str
    lead: str
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()
    note: str = ""


@dataclass(frozen=True)
class Tile:
    """One number that people read first."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Document:
    """A whole report."""

    tenant: str
    subtitle: str
    tiles: Sequence[Tile]
    sections: Sequence[Section]
