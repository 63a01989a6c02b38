"""How do forecasts do on series of one's own, against plain Prophet refitted on the same days?

`TIDEMARK_BENCH_SERIES` names a folder of CSV files, one daily series each, with a header and the columns `date,value`
(ISO dates; an empty value is a missing day). All files are one fleet. Scores in [0, 1] stay as they are; a series with
other values goes through the logistic function, its median to 0.12 and its middle four fifths to 0.04-0.30: where drift
lies.

Forecasts of seven days are made at twelve origins, sixteen days apart, of series with 45 days by then. Losses are in
units of a series' mean step from day to day, so that none counts for more than another.

Belongs here: these questions. Does not belong here: series, of which none is bundled; the forecasts themselves.
"""

import csv
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import numpy as np
from scipy import special

from assets.forecasts.history import Subject
from assets.forecasts.panel import Floats, Panel
from benchmarks.forecast_methods import METHODS, Maker, before
from benchmarks.rows import Row

FOLDER = "TIDEMARK_BENCH_SERIES"
ORIGINS, APART, HORIZON = 12, 16, 7
FEWEST = 45
LEVEL = 0.9545
PLAIN, AIM = "plain Prophet", "<= 0.78"
_QUESTION = "error and pinball loss on series of one's own, 1-7 days ahead"
# On the logit scale: where the median goes, and the standard deviation that the middle four fifths would have.
_MEDIAN, _SPREAD = -2.0, 0.6
_FOUR_FIFTHS = 2.56  # of a normal law, in standard deviations
_EVALUATIONS = 200.0


class Losses(NamedTuple):
    """(n, origins, days): absolute errors, and pinball losses of both ends of the interval, NaN where nothing came."""

    error: Floats
    pinball: Floats


def run() -> list[Row]:
    """Two rows, or one that says that nothing was measured."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return [Row(_QUESTION, None, AIM, f"nothing was measured: set {FOLDER} to a folder of date,value files")]
    panel = read(Path(folder))
    return list(compare(panel))


def read(folder: Path) -> Panel:
    """One fleet of all series of a folder, which may begin and end on different days.

    Raises:
        ValueError: the folder has no CSV file, or a file none or a wrong `date` or `value`.
    """
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise ValueError(f"{folder} has no *.csv file: {FOLDER} takes a folder of files with the columns date,value")
    series = [_series(file) for file in files]
    first, last = min(min(days) for days in series), max(max(days) for days in series)
    values = np.full((len(files), (last - first).days + 1), np.nan)
    for row, days in zip(values, series, strict=True):
        row[[(day - first).days for day in days]] = _scores(np.array(list(days.values())))
    subjects = tuple(Subject("own", UUID(int=row), file.stem) for row, file in enumerate(files))
    counts = np.where(np.isnan(values), 0.0, _EVALUATIONS)
    return Panel(subjects, first, values, counts, np.zeros(values.shape, dtype=bool))


def _series(file: Path) -> dict[date, float]:
    days = {}
    with file.open(newline="", encoding="utf-8") as lines:
        for number, line in enumerate(csv.DictReader(lines), start=2):
            try:
                days[date.fromisoformat(line["date"])] = float(line["value"] or "nan")
            except (KeyError, ValueError, TypeError) as wrong:
                raise ValueError(f"{file.name}, line {number}: date must be like 2026-05-06, value a number") from wrong
    if not np.isfinite(list(days.values())).any():
        raise ValueError(f"{file.name} has no value: it needs a header date,value and a line a day")
    return days


def _scores(values: Floats) -> Floats:
    if np.nanmin(values) >= 0 and np.nanmax(values) <= 1:
        return values
    low, median, high = np.nanquantile(values, [0.1, 0.5, 0.9])
    scores: Floats = special.expit(_MEDIAN + _SPREAD * _FOUR_FIFTHS * (values - median) / max(high - low, 1e-9))
    return scores


def compare(panel: Panel) -> Iterator[Row]:
    """The judgement against plain Prophet: all losses together, and in how many series they are less."""
    ours, plain = (losses(panel, METHODS[name]) for name in ("judgement", PLAIN))
    questions = ("absolute error", f"pinball loss of the {LEVEL:.2%} interval's ends")
    for what, own, other in zip(questions, ours, plain, strict=True):
        known = np.isfinite(own) & np.isfinite(other)
        sums = np.array(
            [[own[row][some].sum(), other[row][some].sum()] for row, some in enumerate(known) if some.any()]
        )
        if not len(sums):
            yield Row(what, None, AIM, f"nothing was measured: no series has {FEWEST} days before an origin")
            continue
        ratios = sums[:, 0] / sums[:, 1]
        own_sum, other_sum = sums.sum(axis=0)
        figures = f"{len(ratios)} series: {np.mean(ratios < 1):.0%} below 1, the median {np.median(ratios):.2f}"
        yield Row(f"{what}, 1-{HORIZON} days ahead, / {PLAIN}", own_sum / other_sum, AIM, figures)


def losses(panel: Panel, make: Maker) -> Losses:
    """What a method loses at all origins."""
    steps = np.abs(np.diff(panel.values, axis=1))
    known = np.isfinite(steps)
    # A constant series has no unit, nor one without neighbouring days.
    total = np.where(known, steps, 0.0).sum(axis=1)
    unit = (np.where(total > 0, total, np.nan) / np.maximum(known.sum(axis=1), 1))[:, None, None]
    shape = (len(panel.subjects), ORIGINS, HORIZON)
    found = Losses(np.full(shape, np.nan), np.full(shape, np.nan))
    low, high = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    for origin in range(ORIGINS):
        past = before(panel, HORIZON + APART * origin)
        old = (~np.isnan(past.values)).sum(axis=1) >= FEWEST
        if not old.any():
            continue
        days = past.values.shape[1]
        came = panel.values[old, days : days + HORIZON]
        yhat, below, above = (part[:, :HORIZON] for part in make(past.of(old), HORIZON).ahead(past.of(old), LEVEL))
        found.error[old, origin] = np.abs(came - yhat)
        ends = _pinball(came - below, low) + _pinball(came - above, high)
        # The first day's upper end comes closer where a slow change is suspected: a bound for alarms, no quantile.
        found.pinball[old, origin, 1:] = ends[:, 1:]
    return Losses(found.error / unit, found.pinball / unit)


def _pinball(miss: Floats, level: float) -> Floats:
    return np.maximum(level * miss, (level - 1) * miss)
