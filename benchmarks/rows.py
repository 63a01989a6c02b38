"""A benchmark's answer, and the median it is made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        question: what is compared with what.
        ratio: the answer, without a unit; None if what is compared with is not installed.
        aim: what the project wants it to be, in words (`>= 0.6`).
        figures: the measured values behind the ratio, with units, for people.
    """

    question: str
    ratio: float | None
    aim: str
    figures: str


def spread(seconds: Sequence[float]) -> str:
    """The median of some durations with their range, for `figures`."""
    return f"{median(seconds):.2f} s ({min(seconds):.2f}-{max(seconds):.2f})"
