"""Figures as bytes and inside Dagster metadata: a plot as Markdown with its PNG as a data URI.

Belongs here: the layout and rendering that every group's plots share. Does not belong here: what is drawn (each group's
plots.py).
"""

import base64
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 72  # metadata lives in Dagster's event log: some 50 KB a plot, not 500
COLUMNS = 2


def grid(count: int, title: str) -> tuple["Figure", list[Any]]:
    """A figure with `count` panels, two a row."""
    from matplotlib.figure import Figure

    rows = max(1, -(-count // COLUMNS))
    figure = Figure(figsize=(11, 2.6 * rows + 0.4), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel in panels[count:]:
        panel.set_axis_off()
    figure.suptitle(title, fontsize=11)
    return figure, panels[:count]


def png(figure: "Figure") -> bytes:
    """The figure as PNG bytes; the same figure gives the same bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def markdown(figure: "Figure", alt: str) -> str:
    """The figure as a Markdown image that needs no file and no network."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(png(figure)).decode()})"
