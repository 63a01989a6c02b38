"""Prophet's fits of one chunk of templates, week after week, while a replay goes through their days.

Belongs here: when a week's fit is made, from what, and what is remembered or held to instead. Does not belong here:
fitting (structure.py), stepping through days (replay.py).
"""

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from assets.forecasts import versions
from assets.forecasts.methods import PROPHET
from assets.forecasts.panel import Floats, Panel
from assets.forecasts.scale import to_scale
from assets.forecasts.serving import NEVER, Serving
from assets.forecasts.state import State
from assets.forecasts.structure import FAR_OFF, Structure, fit

Singles = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


class Weeks:
    """Prophet's forecasts for one chunk of templates, week after week, from a block's first Monday on."""

    def __init__(
        self,
        panel: Panel,
        rows: Rows,
        innovations: Singles,
        start: int,
        block_start: int,
        serving: Serving,
    ) -> None:
        self.panel, self.rows, self.innovations = panel, rows, innovations
        self.start, self.block_start = start, block_start
        self.serving = serving
        self.has_pins = bool((serving.since < NEVER).any())
        self.monday = -1
        self.current: Structure | None = None

    def recall(self, column: int, structure: Structure) -> None:
        """Take what is remembered of a day's week for what is known of it."""
        self.monday, self.current = self._monday(column), structure

    def learnt(self, column: int, state: State) -> None:
        """Put the recursion's own numbers, which were renewed on a Monday, to the week's fits."""
        if self.current is not None and column == self.monday:
            self.current.fits["pull"], self.current.fits["within"] = state.beta.T, state.within.T

    def pinned(self, column: int) -> Floats | None:
        """The coefficients that the recursion holds to in a day's week."""
        if not self.has_pins:
            return None
        return coefficients(self.serving, self.panel.first_day + timedelta(days=self._monday(column)))

    def _monday(self, column: int) -> int:
        return column - (self.panel.first_day + timedelta(days=column)).weekday()

    def structure(self, column: int) -> Structure | None:
        """What is known of a day's week before the day; all days before it must have been replayed."""
        monday = self._monday(column)
        if monday < self.block_start or monday <= self.start:
            return None
        if monday != self.monday:
            self.monday, self.current = monday, self._fitted(monday, column)
        return self.current

    def _fitted(self, monday: int, column: int) -> Structure:
        past = slice(self.start, monday)
        values = to_scale(self.panel.values[self.rows, past])
        by_prophet = self.serving.methods == PROPHET
        values[~by_prophet] = np.nan
        innovations = self.innovations[self.rows, : monday - self.start]
        first_day = self.panel.first_day + timedelta(days=self.start)
        pinned = by_prophet & self.serving.pinned(self.panel.first_day + timedelta(days=monday))
        held_to = np.where(pinned, self.serving.fits, versions.none(len(pinned)))
        structure = fit(values, innovations, self.panel.events[self.rows, past], first_day, held_to)
        for day in range(monday, column):
            structure.forget(self.panel.events[self.rows, day])
            far_off = np.abs(self.innovations[self.rows, day - self.start]) > FAR_OFF
            structure.learn(day - monday, to_scale(self.panel.values[self.rows, day]), far_off)
        return structure


def coefficients(serving: Serving, monday: date) -> Floats | None:
    """(F, n) the recursion's coefficients that are held to in a week, NaN of templates of which none are."""
    which = serving.pinned(monday)
    return np.where(which, serving.fits["pull"].T, np.nan) if which.any() else None
