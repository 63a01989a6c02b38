"""Replaying histories: all templates' innovations up to a day, from the start or from what is remembered.

Everything is replayed under one set of the fleet's priors, which are learnt anew every BLOCK days from the days before
the block, so that an innovation depends on nothing but its template's own past and its block. What is remembered of a
template is therefore only a short cut: replaying from the start gives the same bits.

Belongs here: blocks, memory, running the recursion over a panel. Does not belong here: the recursion (innovations.py),
calibration.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from assets.forecasts import fleet as fleets
from assets.forecasts.crossing import HORIZON, choose
from assets.forecasts.fleet import Fleet
from assets.forecasts.innovations import Outlook, Recursion, fresh
from assets.forecasts.panel import Floats, Panel
from assets.forecasts.scale import to_scale
from assets.forecasts.state import SIZE, WEEK, State

BLOCK = 28  # days
# Three years hold two full seasons and bound the cost, however old a template is.
REPLAYED_DAYS = 3 * 365
REMEMBERED = 365  # days of innovations kept, for the fleet's calibration
TEACHERS = 1500  # templates that the priors are learnt from
TEACHING_WEEKS = 26  # weekly origins of the error paths
CHUNK = 2048  # templates at a time: a state of them stays in the processor's cache
GROWN_UP = 14  # scored days from which a template's errors teach others how errors grow

Singles = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Memory:
    """What the next night needs of each template, one row each.

    Attributes:
        block: the block under whose priors it was made; of another block it is worthless.
        days: (n,) ordinal of the last day let in; 0 where nothing is remembered, which makes a template start anew.
        states: (n, SIZE).
        innovations: (n, REMEMBERED), the last column being that of `days`.
    """

    block: int
    days: npt.NDArray[np.int64]
    states: Floats
    innovations: Singles


@dataclass(frozen=True)
class Replay:
    """Days [start, end) of a panel, replayed.

    Attributes:
        start: the column of the panel that the arrays' first column stands for.
        innovations: (n, days), NaN where nothing was scored; the newest REMEMBERED days before the first judged one are
            there at least.
        ages: (n, days) scored days behind each.
        settled: (n, days) as `ages`, since the newest known event.
        means, sds: (n, days) forecasts on the arcsine scale, of the days from the first judged one on; NaN before.
        state: after the last day.
    """

    start: int
    innovations: Singles
    ages: Floats
    settled: Floats
    means: Floats
    sds: Floats
    state: State


def block_of(day: date) -> int:
    """The number of the block that a day lies in."""
    return day.toordinal() // BLOCK


def replay(panel: Panel, block: int, fleet: Fleet, first: int, end: int, memory: Memory | None) -> Replay:
    """Replay a panel's days before column `end`, with forecasts of the days from column `first` on."""
    start = _start(panel, block)
    n, days = len(panel.subjects), max(end - start, 0)
    innovations = np.full((n, days), np.nan, dtype=np.float32)
    means, sds = np.full((n, days), np.nan), np.full((n, days), np.nan)
    table = np.empty((SIZE, n))
    for resumed, rows in _resumed(panel, memory, block, start, first):
        if memory is not None and resumed > start:
            kept = min(resumed - start, REMEMBERED)
            innovations[rows, resumed - start - kept : resumed - start] = memory.innovations[rows, REMEMBERED - kept :]
        for part in np.array_split(rows, -(-len(rows) // CHUNK)):
            state = fresh(len(part), fleet)
            if memory is not None and resumed > start:
                state = State.of(np.ascontiguousarray(memory.states[part].T))
            recursion = Recursion(state, fleet)
            for column, outlook, z in _steps(panel, part, recursion, range(resumed, end)):
                innovations[part, column - start] = z
                if column >= first:
                    means[part, column - start], sds[part, column - start] = outlook.mean, outlook.sd
            table[:, part] = state.table
    behind = ages(panel, start, end)
    return Replay(start, innovations, behind, since_events(panel, start, behind), means, sds, State.of(table))


def remember(panel: Panel, block: int, replayed: Replay) -> Memory:
    """What to keep of a replay that ran to the panel's end."""
    n, days = replayed.innovations.shape
    kept = np.full((n, REMEMBERED), np.nan, dtype=np.float32)
    width = min(days, REMEMBERED)
    if width:
        kept[:, REMEMBERED - width :] = replayed.innovations[:, days - width :]
    last = panel.first_day.toordinal() + panel.values.shape[1] - 1
    return Memory(block, np.full(n, last), np.ascontiguousarray(replayed.state.table.T), kept)


def ages(panel: Panel, start: int, end: int) -> Floats:
    """(n, end - start) scored days of each template before each day."""
    scored = ~np.isnan(panel.values[:, start:end])
    before: Floats = np.cumsum(scored, axis=1) - scored.astype(float)
    return before


def since_events(panel: Panel, start: int, ages: Floats) -> Floats:
    """As `ages`, counted from the newest known event on: after it a level is as uncertain as a young template's.

    Not under a week where a template was older: weekdays and noise are known.
    """
    events = panel.events[:, start : start + ages.shape[1]]
    at_event = np.maximum.accumulate(np.where(events, ages, 0.0), axis=1)
    settled: Floats = np.maximum(ages - at_event, np.minimum(ages, WEEK))
    return settled


def learn(panel: Panel, block: int) -> tuple[Fleet, Floats]:
    """A block's priors and error paths (crossing.py), from the days before it."""
    start, end = _start(panel, block), _column(panel, block)
    if end <= start:
        return fleets.DEFAULT, choose(np.empty((0, HORIZON)))
    rows = sample(panel, TEACHERS)
    recursion = Recursion(fresh(len(rows), fleets.DEFAULT), fleets.DEFAULT)
    for _ in _steps(panel, rows, recursion, range(start, end)):
        pass
    fleet = fleets.learn(recursion.state)
    return fleet, choose(_paths(panel, rows, fleet, start, end))


def sample(panel: Panel, size: int) -> Rows:
    """Rows of at most `size` templates, evenly over their order by tenant and id, which is the panel's order or not."""
    ordered = sorted(range(len(panel.subjects)), key=lambda row: panel.subjects[row][:2])
    chosen = np.linspace(0, len(ordered) - 1, min(size, len(ordered))).astype(int)
    rows: Rows = np.array(ordered, dtype=np.intp)[chosen]
    return rows


def _paths(panel: Panel, rows: Rows, fleet: Fleet, start: int, end: int) -> Floats:
    """(origins x templates, HORIZON) errors of the seven-day forecasts made on the last Mondays before `end`."""
    recursion = Recursion(fresh(len(rows), fleet), fleet)
    errors: list[Floats] = []
    origins = range(max(start, end - 7 * TEACHING_WEEKS), end - HORIZON + 1)
    for column in range(start, end - HORIZON + 1):
        day = panel.first_day + timedelta(days=column)
        if day.weekday() == 0 and column in origins:
            means, sd = recursion.ahead(0, HORIZON)
            came = to_scale(panel.values[rows, column : column + HORIZON])
            paths = (came - means.T) / sd[:, None]
            errors.append(paths[recursion.state.age >= GROWN_UP])
        for _ in _steps(panel, rows, recursion, range(column, column + 1)):
            pass
    return np.concatenate([np.empty((0, HORIZON)), *errors])


def _steps(panel: Panel, rows: Rows, recursion: Recursion, columns: range) -> Iterator[tuple[int, Outlook, Floats]]:
    """Step a recursion through a panel's columns: each with its forecast and innovations."""
    part = panel.values[rows, columns.start : columns.stop], panel.counts[rows, columns.start : columns.stop]
    values, counts = np.asfortranarray(to_scale(part[0])), np.asfortranarray(part[1])
    events = np.asfortranarray(panel.events[rows, columns.start : columns.stop])
    weekday = (panel.first_day + timedelta(days=columns.start)).weekday() if columns else 0
    for step, column in enumerate(columns):
        outlook, z = recursion.step((weekday + step) % 7, values[:, step], counts[:, step], events[:, step])
        yield column, outlook, z


def _resumed(panel: Panel, memory: Memory | None, block: int, start: int, first: int) -> Iterator[tuple[int, Rows]]:
    """Columns at which replaying begins, each with its rows."""
    n = len(panel.subjects)
    columns = np.full(n, start)
    if memory is not None and memory.block == block:
        after = memory.days - panel.first_day.toordinal() + 1
        columns = np.where((memory.days > 0) & (after > start) & (after <= first), after, start)
    for resumed in np.unique(columns):
        yield int(resumed), np.flatnonzero(columns == resumed)


def _column(panel: Panel, block: int) -> int:
    """The column of a block's first day, within the panel."""
    return min(max(block * BLOCK - panel.first_day.toordinal(), 0), int(panel.values.shape[1]))


def _start(panel: Panel, block: int) -> int:
    return max(block * BLOCK - panel.first_day.toordinal() - REPLAYED_DAYS, 0)
