"""A report as one HTML file: styles inside, pictures as data URIs, nothing to load.

Belongs here: rendering of a document by report.html.j2. Does not belong here: what it says (compose.py).
"""

import base64
import re
from io import BytesIO
from pathlib import Path

from assets.reports.document import Document, Draw, Panel
from assets.reports.plots import plain_style

TEMPLATE = "report.html.j2"
_INCHES = (5.2, 2.0)
_WIDE_INCHES = (10.4, 2.2)
_NOTHING_ABOUT_THE_FILE = {"Creator": None, "Date": None, "Format": None, "Type": None}


def html(document: Document) -> bytes:
    """Render the document; the same document gives the same bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with plain_style():
        return environment.get_template(TEMPLATE).render(document=document, picture=_picture).encode()


def _picture(panel: Panel) -> str:
    """The panel as a data URI: vectors, because they stay sharp on paper and are smaller than pixels."""
    drawn = _svg(panel.draw, _WIDE_INCHES if panel.is_wide else _INCHES)
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn).decode()}"


def _svg(draw: Draw, inches: tuple[float, float]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout="constrained")
    draw(figure.subplots())
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata=_NOTHING_ABOUT_THE_FILE)
    return _compact(buffer.getvalue().decode()).encode()


def _compact(svg: str) -> str:
    """Half as long and the same to the eye: without prologue and line breaks, and with shorter tags."""
    svg = re.sub(r"\s+", " ", svg[svg.index("<svg") :]).replace("> <", "><")
    return re.sub(r"<[^>]+>", lambda tag: _shorter(tag.group()), svg)


def _shorter(tag: str) -> str:
    """Without names of groups, rotations by nothing, blanks in styles, numbers finer than a hundredth of a point."""
    tag = re.sub(r'(?<=<g) id="[^"]*"| transform="rotate\(-0 [^"]*"', "", tag)
    return re.sub(r"(\.\d\d)\d+|([:;]) ", r"\1\2", tag)
