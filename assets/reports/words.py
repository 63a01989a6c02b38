"""How a report writes numbers, times and names. No locale has a say.

Belongs here: one value to text. Does not belong here: sentences (compose.py).
"""

import unicodedata
from datetime import UTC, datetime

NAME_LENGTH = 80
EXTRACTOR_LENGTH = 60
ABSENT = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def named(text: str, longest: int = NAME_LENGTH) -> str:
    """A name that somebody chose, on one line: the middle of a long one left out, control characters replaced."""
    shown = "".join(UNKNOWN if unicodedata.category(character) == "Cc" else character for character in text)
    if len(shown) <= longest:
        return shown
    start = (longest - 1) // 2 + 1
    return f"{shown[:start]}…{shown[len(shown) - (longest - 1 - start) :]}"


def counted(number: int, noun: str) -> str:
    """`1 day`, `2,001 days`."""
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def score(value: float | None) -> str:
    """A score in [0, 1]."""
    return ABSENT if value is None else f"{value:.3f}"


def change(value: float | None) -> str:
    """A change of a score, with its sign."""
    return ABSENT if value is None else f"{value:+.3f}".replace("-", MINUS)


def percent(share: float | None) -> str:
    """A share in [0, 1] as a percentage; what isn't quite none or all doesn't look like it."""
    if share is None:
        return ABSENT
    if 0 < share < 0.001:  # noqa: PLR2004
        return "<0.1 %"
    if 0.999 < share < 1:  # noqa: PLR2004
        return ">99.9 %"
    return f"{share:.1%}".replace("%", " %")


def moment(at: datetime | None) -> str:
    """A time, in UTC, to the minute."""
    return ABSENT if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def extractor(vendor: str | None, model: str | None) -> str:
    """Who produced a result; nothing where the whole template is meant."""
    return named("/".join(part for part in (vendor, model) if part), EXTRACTOR_LENGTH) or ABSENT
