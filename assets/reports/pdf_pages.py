"""A report as PDF: A4 pages drawn by matplotlib, with the panels of the HTML page and text that can be searched.

Belongs here: where on which page a part of a document stands. Does not belong here: what it says (compose.py), how wide
a text is (type_setting.py).
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from assets.reports.document import Document, Panel, Section, Table, Tile
from assets.reports.plots import plain_style
from assets.reports.type_setting import POINTS_AN_INCH, drawable, fitted, lines

WIDTH, HEIGHT = 8.27, 11.69
MARGIN, GUTTER = 0.6, 0.3
INNER = WIDTH - 2 * MARGIN
FOOT = 0.75
LEADING = 1.4
BODY, SMALL, CELL = 8.5, 7.5, 6.5
INK, QUIET, RULE, BLUE = "#1f2630", "#525c69", "#cfd6de", "#2171b5"
ROW, HEADERS, CELL_GAP = 0.175, 0.29, 0.06
BOLDER = 0.88  # of a room that bold text of this width fills
PANEL, PANEL_TITLE, PANEL_AXIS = 1.45, 0.2, 0.4
AXIS_LEFT = 0.5
HEADING = 0.75


def pdf(document: Document) -> bytes:
    """Render the document; the same document gives the same bytes."""
    from matplotlib.backends.backend_pdf import PdfPages

    buffer = BytesIO()
    title = f"Tidemark report: {drawable(document.tenant)}"
    about = {"Title": title, "Creator": "Tidemark", "Producer": "Tidemark", "CreationDate": None}
    with plain_style(), PdfPages(buffer, metadata=about) as file:
        pages = _Pages(f"{document.tenant} · {document.subtitle}")
        pages.head(document)
        for section in document.sections:
            pages.section(section)
        for page in pages.finished():
            file.savefig(page)
    return buffer.getvalue()


class _Pages:
    """Pages filled from top to bottom. `left` is what is left of the newest, in inches above the margin's foot."""

    def __init__(self, running_title: str) -> None:
        self._running_title = running_title
        self._figures: list[Any] = []
        self._turn()

    def finished(self) -> list[Any]:
        """All pages, with their number and what they belong to at the foot."""
        for number, figure in enumerate(self._figures, start=1):
            foot = {"size": SMALL, "color": QUIET}
            title = fitted(self._running_title, SMALL, INNER - 1)
            figure.text(MARGIN / WIDTH, 0.4 / HEIGHT, title, **foot)
            count = f"{number} / {len(self._figures)}"
            figure.text(1 - MARGIN / WIDTH, 0.4 / HEIGHT, count, ha="right", **foot)
        return self._figures

    def head(self, document: Document) -> None:
        self._text(["Tidemark report"], BODY, color=BLUE, weight="bold")
        self._text([fitted(document.tenant, 20, INNER * BOLDER)], 20, weight="bold")
        self._text(lines(document.subtitle, BODY, INNER), BODY, color=QUIET)
        self._left -= 0.1
        self._rule(BLUE, 1.6)
        self._tiles(document.tiles)

    def section(self, section: Section) -> None:
        self._left -= 0.3
        self._need(HEADING + (_tall(section.panels[:2]) if section.panels else 4 * ROW))
        self._text([section.title], 12.5, weight="bold")
        self._text(lines(section.lead, BODY, INNER), BODY)
        narrow = [panel for panel in section.panels if not panel.is_wide]
        for panel in section.panels:
            if panel.is_wide:
                self._panels([panel], INNER)
        for first in range(0, len(narrow), 2):
            self._panels(narrow[first : first + 2], (INNER - GUTTER) / 2)
        for table in section.tables:
            self._left -= 0.12
            self._table(table)
        if section.note:
            self._left -= 0.05
            self._text(lines(section.note, SMALL, INNER), SMALL, color=QUIET)

    def _turn(self) -> None:
        from matplotlib.figure import Figure

        self._page = Figure(figsize=(WIDTH, HEIGHT))
        self._figures.append(self._page)
        self._left = HEIGHT - MARGIN - FOOT

    def _need(self, inches: float) -> bool:
        """Turn the page if less than this is left; True if so."""
        if self._left >= inches:
            return False
        self._turn()
        return True

    def _at(self, across: float, up: float) -> tuple[float, float]:
        """From inches inside the margins to the page's fractions."""
        return (MARGIN + across) / WIDTH, (FOOT + up) / HEIGHT

    def _put(self, across: float, up: float, text: str, size: float, **style: Any) -> None:
        self._page.text(*self._at(across, up), text, size=size, **({"color": INK} | style))

    def _text(self, texts: Sequence[str], size: float, **style: Any) -> None:
        for text in texts:
            line = size * LEADING / POINTS_AN_INCH
            self._need(line)
            self._left -= line
            self._put(0, self._left + line * 0.25, text, size, **style)

    def _rule(self, color: str = RULE, width: float = 0.5, across: float = 0, inches: float = INNER) -> None:
        from matplotlib.lines import Line2D

        (start, up), (end, _) = self._at(across, self._left), self._at(across + inches, self._left)
        self._page.add_artist(Line2D([start, end], [up, up], color=color, linewidth=width))

    def _tiles(self, tiles: Sequence[Tile]) -> None:
        self._left -= 0.75
        each = INNER / len(tiles)
        for number, tile in enumerate(tiles):
            across, room = number * each, each - 0.1
            self._put(across, self._left + 0.5, fitted(tile.label, SMALL, room), SMALL, color=QUIET)
            self._put(across, self._left + 0.24, fitted(tile.value, 14, room * BOLDER), 14, weight="bold")
            for line, text in enumerate(lines(tile.note, 6, room)[:2]):
                self._put(across, self._left + 0.1 - 0.11 * line, text, 6, color=QUIET)

    def _panels(self, panels: Sequence[Panel], wide: float) -> None:
        """Panels side by side, each with its title above and its table below."""
        self._need(_tall(panels))
        bottom = self._left - _tall(panels)
        top = self._left - 0.1
        for number, panel in enumerate(panels):
            across = number * (wide + GUTTER)
            # On its own, because in one text with a name that reads from right to left it would stand behind it.
            label = f"{panel.number}." if panel.number else ""
            self._put(across, top - PANEL_TITLE + 0.06, label, BODY, weight="bold")
            beside = 0.22 if label else 0
            title = fitted(panel.title, BODY, (wide - beside) * BOLDER)
            self._put(across + beside, top - PANEL_TITLE + 0.06, title, BODY, weight="bold")
            legend = 0.2 if panel.is_wide else 0.0
            corner = self._at(across + AXIS_LEFT, top - PANEL_TITLE - PANEL)
            size = (wide - AXIS_LEFT) / WIDTH, (PANEL - legend) / HEIGHT
            panel.draw(self._page.add_axes((*corner, *size)))
            if panel.table:
                self._left = top - PANEL_TITLE - PANEL - PANEL_AXIS
                self._table(panel.table, across, wide)
        self._left = bottom

    def _table(self, table: Table, across: float = 0, inches: float = INNER) -> None:
        self._need(4 * ROW)
        self._left -= ROW
        self._put(across, self._left + 0.05, fitted(table.caption, SMALL, inches), SMALL, color=QUIET)
        self._headers(table, across, inches)
        for row in table.rows:
            if self._need(ROW):
                self._headers(table, across, inches)
            self._left -= ROW
            for (at, room, side), cell in zip(_places(table, across, inches), row, strict=True):
                self._put(at, self._left + 0.055, fitted(cell, CELL, room), CELL, ha=side)
            self._rule(across=across, inches=inches)

    def _headers(self, table: Table, across: float, inches: float) -> None:
        """One row of two lines, the shorter ones standing on the rule."""
        self._left -= HEADERS
        for (at, room, side), column in zip(_places(table, across, inches), table.columns, strict=True):
            for up, text in enumerate(reversed(lines(column.header, CELL, room * BOLDER)[:2])):
                self._put(at, self._left + 0.055 + 0.11 * up, text, CELL, ha=side, weight="bold")
        self._rule(QUIET, across=across, inches=inches)


def _tall(panels: Sequence[Panel]) -> float:
    """How much of a page panels side by side take, their tables included."""
    rows = max(len(panel.table.rows) if panel.table else -1 for panel in panels)
    table = HEADERS + (rows + 1) * ROW if rows >= 0 else 0
    return 0.1 + PANEL_TITLE + PANEL + PANEL_AXIS + table


def _places(table: Table, across: float, inches: float) -> list[tuple[float, float, str]]:
    """Of each column where its text is set, how much room it has, and by which side it is aligned."""
    share = inches / sum(column.weight for column in table.columns)
    places = []
    pad = 0.0
    for column in table.columns:
        room = column.weight * share
        is_number = column.kind == "number"
        at, side = (across + room - CELL_GAP, "right") if is_number else (across + pad, "left")
        places.append((at, room - CELL_GAP - (0 if is_number else pad), side))
        # What is aligned to the left keeps off a number to its left.
        pad = CELL_GAP if is_number else 0.0
        across += room
    return places
