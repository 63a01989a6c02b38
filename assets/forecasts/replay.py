"""Replaying histories: all templates' innovations up to a day, from the start or from what is remembered.

Everything is replayed under one set of the fleet's priors, which are learnt anew every BLOCK days from the days before
the block, so that an innovation depends on nothing but its template's own past and its block. What is remembered of a
template is therefore only a short cut: replaying from the start gives the same bits.

Belongs here: blocks, memory, running the recursion over a panel. Does not belong here: the recursion (innovations.py),
calibration.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from assets.forecasts import fleet as fleets
from assets.forecasts import versions
from assets.forecasts.crossing import HORIZON, choose
from assets.forecasts.fleet import Fleet
from assets.forecasts.innovations import Outlook, Recursion, fresh
from assets.forecasts.methods import EWMA, PROPHET
from assets.forecasts.panel import Bools, Floats, Panel
from assets.forecasts.scale import to_scale
from assets.forecasts.served import Rows, Served, Singles, serve, simply
from assets.forecasts.serving import Methods, Serving
from assets.forecasts.simple import SIMPLE
from assets.forecasts.state import SIZE, WEEK, State, Tails
from assets.forecasts.structure import WIDTH, Structure, assemble
from assets.forecasts.versions import Versions
from assets.forecasts.weeks import Weeks, coefficients

BLOCK = 28  # days
# Three years hold two full seasons and bound the cost, however old a template is.
REPLAYED_DAYS = 3 * 365
RECALLED = 14  # newest days whose forecasts are kept: those that may still be judged
CALIBRATED_ON = 365  # days of innovations that a day's calibration is learnt from
REMEMBERED = CALIBRATED_ON + RECALLED  # days of innovations kept
TEACHERS = 1500  # templates that the priors are learnt from
TEACHING_WEEKS = 26  # weekly origins of the error paths
CHUNK = 2048  # templates at a time: a state of them stays in the processor's cache
GROWN_UP = 14  # scored days from which a template's errors teach others how errors grow

Number = TypeVar("Number", np.float32, np.float64, np.int8)


@dataclass(frozen=True)
class Lessons:
    """What a block's replays take from the fleet: priors of templates, and (m, HORIZON) errors of past forecasts."""

    fleet: Fleet
    paths: Floats


@dataclass(frozen=True)
class Memory:
    """What the next night needs of each template, one row each.

    Attributes:
        block: the block under whose priors it was made; of another block it is worthless.
        days: (n,) ordinal of the last day let in; 0 where nothing is remembered, which makes a template start anew.
        states: (n, SIZE).
        innovations: (n, REMEMBERED), the last column being that of `days`.
        tails: (n, REMEMBERED) as Replay's.
        means, sds: (n, RECALLED) forecasts of the newest days, as Replay's.
        methods: (n, RECALLED) likewise.
        structures: (n, WIDTH) Prophet's forecasts of the week of the day after `days` (structure.py).
        fits: (n,) by which they were made.
    """

    block: int
    days: npt.NDArray[np.int64]
    states: Floats
    innovations: Singles
    tails: Tails
    means: Floats
    sds: Floats
    methods: Methods
    structures: Floats
    fits: Versions

    @classmethod
    def none(cls, n: int, block: int) -> "Memory":
        """Of `n` templates of which nothing is remembered."""
        return cls(
            block,
            np.zeros(n, dtype=np.int64),
            np.zeros((n, SIZE)),
            np.full((n, REMEMBERED), np.nan, dtype=np.float32),
            np.zeros((n, REMEMBERED), dtype=np.int8),
            np.full((n, RECALLED), np.nan),
            np.full((n, RECALLED), np.nan),
            np.full((n, RECALLED), EWMA, dtype=np.int8),
            np.full((n, WIDTH), np.nan),
            versions.none(n),
        )

    def of(self, rows: Bools) -> "Memory":
        """Of some templates."""
        kept = {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "block"}
        return replace(self, **kept)


@dataclass(frozen=True)
class Replay:
    """Days [start, end) of a panel, replayed.

    Attributes:
        served: what was forecast of them.
        ages: (n, days) scored days behind each.
        settled: (n, days) as `ages`, since the newest known event.
        tails: (n, days) class of a template's tails before each day (state.py).
        state: after the last day.
        structure: Prophet's forecasts from the panel's end on, if the days ran to there.
    """

    served: Served
    ages: Floats
    settled: Floats
    tails: Tails
    state: State
    structure: Structure

    @property
    def start(self) -> int:
        """The column of the panel that the arrays' first column stands for."""
        return self.served.start

    @property
    def innovations(self) -> Singles:
        """(n, days) of the method that served."""
        return self.served.innovations


def block_of(day: date) -> int:
    """The number of the block that a day lies in; blocks begin on Mondays, as day 1 of the calendar was one."""
    return (day.toordinal() - 1) // BLOCK


def replay(
    panel: Panel,
    block: int,
    fleet: Fleet,
    first: int,
    end: int,
    memory: Memory | None = None,
    serving: Serving | None = None,
) -> Replay:
    """Replay a panel's days before column `end`, with forecasts of the days from column `first` on.

    Prophet's method serves all unless told otherwise. What a state remembers is the recursion's own whichever serves;
    innovations are those of the method that served.
    """
    start = start_of(panel, block)
    n, days = len(panel.subjects), max(end - start, 0)
    served = Served.none(n, start, days)
    innovations, means, sds, methods = served.innovations, served.means, served.sds, served.methods
    tails = np.zeros((n, days), dtype=np.int8)
    serving = serving or Serving.prophet(n)
    table = np.empty((SIZE, n))
    structures: list[tuple[Rows, Structure | None]] = []
    for resumed, rows in _resumed(panel, memory, block, start, first, end):
        if memory is not None and resumed > start:
            _recall(innovations, memory.innovations, rows, resumed - start)
            _recall(tails, memory.tails, rows, resumed - start)
            _recall(means, memory.means, rows, resumed - start)
            _recall(sds, memory.sds, rows, resumed - start)
            _recall(methods, memory.methods, rows, resumed - start)
        for part in np.array_split(rows, -(-len(rows) // CHUNK)):
            state = fresh(len(part), fleet)
            if memory is not None and resumed > start:
                state = State.of(np.ascontiguousarray(memory.states[part].T))
            recursion = Recursion(state, fleet)
            weeks = Weeks(panel, part, innovations, start, column_of(panel, block), serving.of(part))
            if memory is not None and resumed > start:
                weeks.recall(resumed, Structure.of(memory.structures[part], memory.fits[part]))
            for column, outlook, z in _steps(panel, part, recursion, range(resumed, end), weeks):
                at = column - start
                innovations[part, at], tails[part, at] = z, outlook.tails
                if column >= min(first, end - RECALLED):
                    means[part, at], sds[part, at] = outlook.mean, outlook.sd
                    methods[part, at] = np.where(outlook.by_prophet, PROPHET, EWMA)
            table[:, part] = state.table
            if end == panel.values.shape[1]:
                structures.append((part, weeks.structure(end)))
                if weeks.monday == end:
                    weeks.learnt(end, _renewed(recursion, weeks.pinned(end)).state)
        for method in SIMPLE:
            chosen = rows[serving.methods[rows] == method]
            serve(method, panel, chosen, range(resumed, end), served)
    behind = ages(panel, start, end)
    settled = since_events(panel, start, behind)
    return Replay(served, behind, settled, tails, State.of(table), assemble(n, structures))


def ahead(panel: Panel, replayed: Replay, fleet: Fleet, serving: Serving) -> tuple[Floats, Floats, Floats, Methods]:
    """Forecast the HORIZON days after a replay that ran to the panel's end.

    Returns:
        (HORIZON, n) means, (n,) the sd of the first day, (HORIZON, n) sds in units of that, and (n,) by which methods.
    """
    end = panel.values.shape[1]
    today = panel.first_day + timedelta(days=end)
    recursion = Recursion(replayed.state, fleet)
    if today.weekday() == 0:
        # As the day itself will be forecast when it has come.
        recursion = _renewed(recursion, coefficients(serving, today))
    means, sds = recursion.ahead(today.weekday(), HORIZON, replayed.structure)
    growth = recursion.growth(HORIZON)
    methods = np.where(np.isnan(replayed.structure.expected[today.weekday()]), EWMA, PROPHET).astype(np.int8)
    for method in SIMPLE:
        rows = np.flatnonzero(serving.methods == method)
        mean, sd = simply(method, panel, rows, end, replayed.served, HORIZON)
        says = ~np.isnan(mean.sum(axis=0) + sd)
        which = rows[says]
        means[:, which], sds[which], methods[which] = mean[:, says], sd[says], method
        growth[:, which] = 1.0
    return means, sds, growth, methods


def _renewed(recursion: Recursion, pinned: Floats | None) -> Recursion:
    """A recursion as it will be on a Monday; the one given stays as it was."""
    renewed = Recursion(State.of(recursion.state.table.copy()), recursion.fleet)
    renewed.pinned = pinned
    renewed.renew()
    return renewed


def remember(panel: Panel, block: int, replayed: Replay) -> Memory:
    """What to keep of a replay that ran to the panel's end."""
    last = panel.first_day.toordinal() + panel.values.shape[1] - 1
    states = np.ascontiguousarray(replayed.state.table.T)
    days = np.full(len(states), last)
    return Memory(
        block,
        days,
        states,
        _newest(replayed.innovations, REMEMBERED, np.nan),
        _newest(replayed.tails, REMEMBERED, 0),
        _newest(replayed.served.means, RECALLED, np.nan),
        _newest(replayed.served.sds, RECALLED, np.nan),
        _newest(replayed.served.methods, RECALLED, EWMA),
        replayed.structure.table,
        replayed.structure.fits,
    )


def _newest(values: npt.NDArray[Number], width: int, gap: float) -> npt.NDArray[Number]:
    """The newest columns, with gaps before the first."""
    newest = values[:, -width:]
    filled = np.full((len(values), width), gap, dtype=values.dtype)
    filled[:, width - newest.shape[1] :] = newest
    return filled


def _recall(values: npt.NDArray[Any], remembered: npt.NDArray[Any], rows: Rows, end: int) -> None:
    """Write what is remembered of some rows into the columns before `end`."""
    width = remembered.shape[1]
    kept = min(end, width)
    values[rows, end - kept : end] = remembered[rows, width - kept :]


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


def settled_now(panel: Panel, replayed: Replay) -> Floats:
    """(n,) scored days since the newest known event, after the panel's last day."""
    if not replayed.settled.shape[1]:
        return np.zeros(len(panel.subjects))
    settled: Floats = replayed.settled[:, -1] + ~np.isnan(panel.values[:, -1])
    return settled


def learn(panel: Panel, block: int) -> Lessons:
    """A block's priors and error paths (crossing.py), from the days before it."""
    start, end = start_of(panel, block), column_of(panel, block)
    if end <= start:
        return Lessons(fleets.DEFAULT, choose(np.empty((0, HORIZON))))
    rows = sample(panel, TEACHERS)
    recursion = Recursion(fresh(len(rows), fleets.DEFAULT), fleets.DEFAULT)
    for _ in _steps(panel, rows, recursion, range(start, end)):
        pass
    fleet = fleets.learn(recursion.state)
    return Lessons(fleet, choose(_paths(panel, rows, fleet, start, end)))


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


def _steps(
    panel: Panel, rows: Rows, recursion: Recursion, columns: range, weeks: Weeks | None = None
) -> Iterator[tuple[int, Outlook, Floats]]:
    """Step a recursion through a panel's columns: each with its forecast and innovations."""
    part = panel.values[rows, columns.start : columns.stop], panel.counts[rows, columns.start : columns.stop]
    values, counts = np.asfortranarray(to_scale(part[0])), np.asfortranarray(part[1])
    events = np.asfortranarray(panel.events[rows, columns.start : columns.stop])
    weekday = (panel.first_day + timedelta(days=columns.start)).weekday() if columns else 0
    for step, column in enumerate(columns):
        day = (weekday + step) % WEEK
        structure = None
        if weeks is not None:
            structure, recursion.pinned = weeks.structure(column), weeks.pinned(column)
        outlook, z = recursion.step(day, values[:, step], counts[:, step], events[:, step], structure)
        if weeks is not None and day == 0:
            weeks.learnt(column, recursion.state)
        yield column, outlook, z


def _resumed(
    panel: Panel, memory: Memory | None, block: int, start: int, first: int, end: int
) -> Iterator[tuple[int, Rows]]:
    """Columns at which replaying begins, each with its rows; forecasts of days from `first` on are known by then."""
    n = len(panel.subjects)
    columns = np.full(n, start)
    if memory is not None and memory.block == block:
        after = memory.days - panel.first_day.toordinal() + 1
        newest = np.arange(RECALLED) - RECALLED + after[:, None]
        unknown = (np.isnan(memory.means) & (newest >= first)).any(axis=1) | (after - first > RECALLED)
        columns = np.where((memory.days > 0) & (after > start) & (after <= end) & ~unknown, after, start)
    for resumed in np.unique(columns):
        yield int(resumed), np.flatnonzero(columns == resumed)


def column_of(panel: Panel, block: int) -> int:
    """The column of a block's first day, within the panel."""
    return min(max(block * BLOCK + 1 - panel.first_day.toordinal(), 0), int(panel.values.shape[1]))


def start_of(panel: Panel, block: int) -> int:
    """The column from which on a block's days are replayed."""
    return max(block * BLOCK + 1 - panel.first_day.toordinal() - REPLAYED_DAYS, 0)
