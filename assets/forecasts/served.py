"""What was forecast of days already replayed, and the simple methods put in the place of the recursion.

Belongs here: running the simple methods over a panel's days. Does not belong here: what they say of a day (simple.py),
the recursion's replay (replay.py).
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from assets.forecasts.methods import EWMA
from assets.forecasts.panel import Floats, Panel
from assets.forecasts.scale import to_scale
from assets.forecasts.serving import Methods
from assets.forecasts.simple import WINDOW, expect

Singles = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Served:
    """What was forecast of days [start, end) of a panel, by whichever method served.

    Attributes:
        start: the column of the panel that the arrays' first column stands for.
        innovations: (n, days), NaN where nothing was scored; the newest REMEMBERED days before the first judged one are
            there at least.
        means, sds: (n, days) forecasts on the arcsine scale, of the days from the first judged one on and of the newest
            RECALLED; NaN before.
        methods: (n, days) by which method they were made: a number in METHODS.
    """

    start: int
    innovations: Singles
    means: Floats
    sds: Floats
    methods: Methods

    @classmethod
    def none(cls, n: int, start: int, days: int) -> "Served":
        """Nothing yet."""
        shape = n, days
        return cls(
            start,
            np.full(shape, np.nan, dtype=np.float32),
            np.full(shape, np.nan),
            np.full(shape, np.nan),
            np.full(shape, EWMA, dtype=np.int8),
        )

    def copy(self) -> "Served":
        """Another, to change."""
        return replace(
            self,
            innovations=self.innovations.copy(),
            means=self.means.copy(),
            sds=self.sds.copy(),
            methods=self.methods.copy(),
        )


def serve(method: int, panel: Panel, rows: Rows, columns: range, served: Served) -> None:
    """Put a simple method's forecasts of some rows, and its innovations, in the place of the recursion's.

    Args:
        method: one of SIMPLE.
        panel: the fleet.
        rows: of the panel.
        columns: of the panel; all days before them must have been served.
        served: changed where the method says something.
    """
    if not len(rows):
        return
    for column in columns:
        mean, sd = simply(method, panel, rows, column, served, 1)
        says = np.flatnonzero(~np.isnan(mean[0] + sd) & ~panel.events[rows, column])
        which, at, mean, sd = rows[says], column - served.start, mean[0, says], sd[says]
        served.innovations[which, at] = (to_scale(panel.values[which, column]) - mean) / sd
        # Where days are replayed only to learn from, no forecast is kept.
        kept = ~np.isnan(served.means[which, at])
        which = which[kept]
        served.means[which, at], served.sds[which, at], served.methods[which, at] = mean[kept], sd[kept], method


def simply(method: int, panel: Panel, rows: Rows, column: int, served: Served, days: int) -> tuple[Floats, Floats]:
    """What a simple method says of some rows' days from a column on, as `simple.expect`."""
    window = slice(max(column - WINDOW, served.start), column)
    part = slice(window.start - served.start, column - served.start)
    values = to_scale(panel.values[rows, window])
    return expect(method, values, served.innovations[rows, part], panel.events[rows, window], days)
