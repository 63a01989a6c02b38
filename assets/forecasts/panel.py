"""The panel: daily scores of many templates side by side, which all judgement reads.

Belongs here: the shape of the arrays and what may stand in them. Does not belong here: where they come from
(history.py, tables.py), any model of them.
"""

from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import numpy.typing as npt

from assets.forecasts.history import Subject

Measure = Literal["drift", "reliability"]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Panel:
    """Daily means of `n` templates over `T` calendar days, oldest first; the last column is the newest complete day.

    High is bad: reliability comes in as 1 - reliability.

    Attributes:
        subjects: whose rows they are, `n` of them.
        first_day: the date of the first column.
        values: (n, T), in [0, 1], NaN where nothing was scored.
        counts: (n, T), the evaluations behind each value, 0 where there is none.
        events: (n, T), whether a known change (an extractor's new version, a re-baseline) takes effect on that day.

    Raises:
        ValueError: shapes differ, or a value lies outside [0, 1].
    """

    subjects: tuple[Subject, ...]
    first_day: date
    values: Floats
    counts: Floats
    events: Bools

    def __post_init__(self) -> None:
        shape = self.values.shape
        if self.values.ndim != 2 or self.counts.shape != shape or self.events.shape != shape:  # noqa: PLR2004
            raise ValueError("values, counts and events must share one shape (templates, days)")
        if len(self.subjects) != shape[0]:
            raise ValueError(f"{len(self.subjects)} subjects for {shape[0]} rows: give one subject a row")
        with np.errstate(invalid="ignore"):
            if np.any((self.values < 0) | (self.values > 1)):
                raise ValueError("values must lie in [0, 1]; NaN stands for a day without a score")

    def of(self, rows: Bools) -> "Panel":
        """The chosen templates' part: (n) which."""
        subjects = tuple(subject for subject, wanted in zip(self.subjects, rows, strict=True) if wanted)
        return Panel(subjects, self.first_day, self.values[rows], self.counts[rows], self.events[rows])
