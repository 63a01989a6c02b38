"""Does a day's refresh know how long the history is? 200,000 new rows on histories of growing length; and nothing new.

A day brings 2 % late rows, feedback on a tenth of its rows and corrections of 1 %. Each history is refreshed for some
days in a row, on a copy.
"""

from dataclasses import dataclass
from statistics import median

from benchmarks.rows import Row, spread
from benchmarks.warehouse_history import Cost, History, history, is_full
from benchmarks.warehouse_rows import ROWS_A_DAY, land_new_day

_SIZES = (1_000_000, 5_000_000)
_FULL_SIZES = (*_SIZES, 20_000_000)
_QUIET_BUILDS = 3
_QUIET_SECONDS = 1.5


@dataclass(frozen=True)
class _Measured:
    rows: int
    refreshes: list[Cost]
    quiet: list[Cost]


def run(days: int = 3) -> list[Row]:
    """Measure; medians are taken over so many days."""
    measured = []
    for rows in _FULL_SIZES if is_full() else _SIZES:
        with history(rows, to_change=True) as found:
            measured.append(_measure(found, days))
    return [
        _growth(measured, "CPU", [[cost.cpu for cost in size.refreshes] for size in measured]),
        _growth(measured, "time", [[cost.wall for cost in size.refreshes] for size in measured]),
        _nothing_new(measured[-1]),
    ]


def _measure(found: History, days: int) -> _Measured:
    found.build()  # The first of a process imports dbt.
    refreshes, quiet = [], []
    for number in range(days):
        with found.database.connect(autocommit=True) as connection:
            land_new_day(connection, found.calendar, number)
        refreshes.append(found.build())
        quiet += [found.build() for _ in range(_QUIET_BUILDS)]
    return _Measured(found.calendar.rows, refreshes, quiet)


def _growth(measured: list[_Measured], what: str, seconds: list[list[float]]) -> Row:
    figures = [f"{_millions(size.rows)} {spread(taken)}" for size, taken in zip(measured, seconds, strict=True)]
    return Row(
        f"{what} of a day's refresh on {_millions(measured[-1].rows)} rows / on {_millions(measured[0].rows)}",
        median(seconds[-1]) / median(seconds[0]),
        "<= 1.2",
        f"{ROWS_A_DAY:,} new rows: {', '.join(figures)}",
    )


def _nothing_new(largest: _Measured) -> Row:
    wall = [cost.wall for cost in largest.quiet]
    cpu = [cost.cpu for cost in largest.quiet]
    return Row(
        f"time of a build with nothing new, all models, {_millions(largest.rows)} rows / {_QUIET_SECONDS} s",
        median(wall) / _QUIET_SECONDS,
        "<= 1",
        f"{spread(wall)}, CPU {spread(cpu)}",
    )


def _millions(rows: int) -> str:
    return f"{rows / 1_000_000:g}M"
