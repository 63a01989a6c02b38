"""Text for pages without a browser: which characters the one font has, how wide they are, where lines break.

Belongs here: measuring and cutting text. Does not belong here: placing it (pdf_pages.py).
"""

import unicodedata
from functools import cache
from typing import Any

from assets.reports.words import UNKNOWN

POINTS_AN_INCH = 72


@cache
def _font() -> Any:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return get_font(findfont(FontProperties(family=["DejaVu Sans"])))


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(_font().get_charmap())


def drawable(text: str) -> str:
    """The text with a sign in place of each character that the font lacks, and without invisible ones."""
    return "".join(
        character if ord(character) in _glyphs() else UNKNOWN
        for character in text
        if unicodedata.category(character) != "Cf"
    )


def width(text: str, points: float) -> float:
    """How wide a drawable text of this size is, in inches; bold text is some 12 % wider."""
    from matplotlib.ft2font import LoadFlags

    font = _font()
    font.set_size(points, POINTS_AN_INCH)
    font.set_text(text, 0.0, flags=LoadFlags.NO_HINTING)
    across, _ = font.get_width_height()
    return float(across) / 64 / POINTS_AN_INCH


def fitted(text: str, points: float, inches: float) -> str:
    """The text, cut in its middle as far as needed to be no wider than this."""
    shown = drawable(text)
    if width(shown, points) <= inches:
        return shown
    fits, too_long = 0, len(shown)
    while too_long - fits > 1:
        kept = (fits + too_long) // 2
        if width(_cut(shown, kept), points) <= inches:
            fits = kept
        else:
            too_long = kept
    return _cut(shown, fits)


def lines(text: str, points: float, inches: float) -> list[str]:
    """The text broken at spaces into lines no wider than this; a word that is wider is cut."""
    broken: list[str] = []
    for word in drawable(text).split():
        longer = f"{broken[-1]} {word}" if broken else word
        if broken and width(longer, points) <= inches:
            broken[-1] = longer
        else:
            broken.append(fitted(word, points, inches))
    return broken


def _cut(text: str, kept: int) -> str:
    start = (kept + 1) // 2
    return f"{text[:start]}…{text[len(text) - (kept - start) :]}"
