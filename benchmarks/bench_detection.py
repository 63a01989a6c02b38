"""Do alarms come as rarely as was asked for, and how much do they find at an equal number of false ones?

On seeded fleets (forecast_series.py), each figure the median over seeds with the binomial standard error of all seeds
together, for the judgement of assets.forecasts beside the plain rule (default Prophet's bound, fitted each day) and a
z-score over 30 days.

- False alarms: the days of ages 14, 30, 60, 90 and 365 of one fleet of all families, nothing put into them.
- Recall: histories of 30 to 180 days, a change on the first of 14 judged days. Every method's nominal rate is set so
  that it makes one false alarm in 180 template-days of the same fleet without the change; then the share of templates
  with an alarm within the window is its recall. A coin finds 1 - (179/180)^window.
- Error: of the first seven judged days, forecast from the day before the first, in units of each template's noise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np

from assets.forecasts.panel import Bools, Floats
from benchmarks.forecast_methods import METHODS, Method, Watched, before
from benchmarks.forecast_series import (
    BURST_DAYS,
    FAMILIES,
    MIXTURE,
    RAMP_DAYS,
    Change,
    Fleet,
    burst,
    change_of_season,
    joined,
    known_upgrade,
    make_fleet,
    ramp,
    shift,
    shift_after_incident,
    spike,
    spike_after_incident,
)
from benchmarks.rows import Row
from benchmarks.warehouse_history import is_full

BUDGET = 1 / 180
RATES = (1 / 60, BUDGET, 1 / 1000)
JUDGED, HORIZON = 14, 7
AGES = (14, 30, 60, 90, 365)
HISTORY = 180 + JUDGED
COVERAGES = (0.9545, 0.8)
# What is to be found, within how many days, and what is aimed at.
SOUGHT: Sequence[tuple[Change, int, str]] = (
    (spike, 1, ">= 0.75"),
    (burst, BURST_DAYS, "> 0.61"),
    (shift, 5, ">= 0.80"),
    (shift, JUDGED, "> 0.78"),
    (ramp, RAMP_DAYS, ">= 0.85"),
    (change_of_season, JUDGED, ""),
)
AFTER_INCIDENT: Sequence[tuple[Change, Change, int]] = (
    (spike_after_incident, spike, 1),
    (shift_after_incident, shift, 5),
)
PLAIN = "plain Prophet"
# Rates between which the one that meets the budget is looked for, and how often the range between them is halved.
_RAREST, _MOST_OFTEN, _HALVINGS = 1e-8, 0.05, 9


class Share(NamedTuple):
    """So many of so many."""

    hits: int
    of: int


@dataclass(frozen=True)
class Trial:
    """A fleet, and a method that has learnt from it."""

    fleet: Fleet
    method: Method


@dataclass(frozen=True)
class _Size:
    seeds: int
    of_family: int
    templates: int
    families: tuple[str, ...]


def run() -> list[Row]:
    """3 seeds of 600 and of 400 templates; with `--full` 5 of 4,800 and of 2,000, six families."""
    some = (MIXTURE, "stationary", "weekly", "AR(1) .6", "heavy tails", "noise by count")
    size = _Size(5, 400, 2000, some) if is_full() else _Size(3, 50, 400, (MIXTURE,))
    rows = list(false_alarms(size.of_family, size.seeds))
    for family in size.families:
        fleets = [make_fleet(family, size.templates, HISTORY, seed) for seed in range(size.seeds)]
        trials = {name: [Trial(fleet, make(fleet.panel, JUDGED)) for fleet in fleets] for name, make in METHODS.items()}
        rows += recalls(family, trials)
        rows += errors(family, trials)
        rows.append(upgrades(family, trials))
    return rows


# False alarms and coverage --------------------------------------------------------------------------------------------


def false_alarms(of_family: int, seeds: int) -> Iterator[Row]:
    """Realised against nominal: by rate, by age, by family, over templates; and the coverage of intervals."""
    ages = np.resize(np.array(AGES), of_family)
    fleets = [
        joined(make_fleet(kind, of_family, max(AGES) + JUDGED, seed, ages + JUDGED) for kind in FAMILIES)
        for seed in range(seeds)
    ]
    calm = {}
    for name, make in METHODS.items():
        methods = [(fleet.panel, make(fleet.panel, JUDGED)) for fleet in fleets]
        calm[name] = {rate: [method.watch(panel, rate) for panel, method in methods] for rate in RATES}
    family = np.repeat(list(FAMILIES), of_family)
    for rate in RATES:
        figures = {name: _rates([_alarms(seen) for seen in of[rate]], rate) for name, of in calm.items()}
        yield _compared(f"false alarms / nominal, 1 in {1 / rate:.0f} days", "0.9-1.1", figures)
    groups = [(f"age {age}", np.tile(ages, len(FAMILIES)) == age) for age in AGES]
    groups += [(kind, family == kind) for kind in FAMILIES]
    for group, rows in groups:
        by_age = group.startswith("age")
        figures = {name: _rates([_alarms(seen, rows) for seen in of[BUDGET]], BUDGET) for name, of in calm.items()}
        yield _compared(f"false alarms / nominal, 1 in 180 days, {group}", "0.8-1.25" if by_age else "", figures)
        for level in COVERAGES if by_age else COVERAGES[:1]:
            figures = {name: _share([_covered(seen, level, rows) for seen in of[BUDGET]]) for name, of in calm.items()}
            yield _compared(f"coverage of the {level:.2%} interval, {group}", f"{level:.4g} ± 0.01", figures)
    spreads = {name: [_spread(seen) for seen in of[RATES[0]]] for name, of in calm.items()}
    yield _compared(
        "variance / mean over templates of alarms, 1 in 60 days",
        "<= 1.2",
        {name: Figure(median(of), _range(of)) for name, of in spreads.items()},
    )


def _alarms(seen: Watched, rows: Bools | slice = slice(None)) -> Share:
    return Share(int(seen.alarms[rows].sum()), int(seen.judged[rows].sum()))


def _covered(seen: Watched, level: float, rows: Bools) -> Share:
    p = seen.p_value[rows][seen.judged[rows]]
    tail = (1 - level) / 2
    return Share(int(((p >= tail) & (p <= 1 - tail)).sum()), p.size)


def _spread(seen: Watched) -> float:
    alarms = seen.alarms.sum(axis=1)
    return float(alarms.var(ddof=1) / alarms.mean()) if alarms.any() else 0.0


# Recall ---------------------------------------------------------------------------------------------------------------


def recalls(family: str, trials: Mapping[str, Sequence[Trial]]) -> Iterator[Row]:
    """Of each change, at an equal number of false alarms; then after an incident, against without one."""
    rates = {name: equal_budget(of) for name, of in trials.items()}
    seen = {
        (name, change): [watch_change(trial, change, rates[name]) for trial in of]
        for change in {change for change, _, _ in SOUGHT} | {change for change, _, _ in AFTER_INCIDENT}
        for name, of in trials.items()
    }
    for change, window, aim in SOUGHT:
        figures = {}
        for name in trials:
            found = [recall(of_seed, window) for of_seed in seen[name, change]]
            share, text = _share([of_seed for of_seed, _ in found])
            delays = [day for _, days in found for day in days]
            figures[name] = Figure(share, f"{text}, after {median(delays):.0f} d" if delays else text)
        question = f"{family}: recall of {_words(change)} within {window} d, 1 false alarm in 180 d"
        yield _compared(question, aim, figures)
    for change, clean, window in AFTER_INCIDENT:
        figures = {}
        for name in trials:
            after, at_rest = (
                _share([recall(of_seed, window)[0] for of_seed in seen[name, kind]]) for kind in (change, clean)
            )
            ratio = after.value / at_rest.value if after.value is not None and at_rest.value else None
            figures[name] = Figure(ratio, f"{after.text} / {at_rest.text}")
        yield _compared(f"{family}: recall of {_words(change)} / of {_words(clean)}", ">= 0.9", figures)


def _words(change: Change) -> str:
    return change.__name__.replace("_", " ")


def equal_budget(trials: Sequence[Trial]) -> float:
    """The nominal rate at which one in 180 of the calm fleets' days alarms."""
    low, high = np.log(_RAREST), np.log(_MOST_OFTEN)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        shares = [_alarms(trial.method.watch(trial.fleet.panel, float(np.exp(middle)))) for trial in trials]
        too_many = sum(share.hits for share in shares) > BUDGET * sum(share.of for share in shares)
        low, high = (low, middle) if too_many else (middle, high)
    return float(np.exp(low))


def watch_change(trial: Trial, change: Change, rate: float) -> Watched:
    """What is said when the change befalls each template on the first judged day."""
    start = trial.fleet.panel.values.shape[1] - JUDGED
    return trial.method.watch(change(trial.fleet, start), rate)


def recall(seen: Watched, window: int) -> tuple[Share, list[float]]:
    """Templates with an alarm within the window, of those judged in it; and the day of each one's first, from 1."""
    alarms = seen.alarms[:, :window]
    hit = alarms.any(axis=1)
    days: list[float] = (alarms[hit].argmax(axis=1) + 1.0).tolist()
    return Share(int(hit.sum()), int(seen.judged[:, :window].any(axis=1).sum())), days


# Errors and events ----------------------------------------------------------------------------------------------------


def errors(family: str, trials: Mapping[str, Sequence[Trial]]) -> Iterator[Row]:
    """Of days that no method has seen, against plain Prophet's on the same templates."""
    losses = {name: [_losses(trial) for trial in of] for name, of in trials.items()}
    plain = losses.pop(PLAIN)
    for place, what in enumerate(("absolute error", f"pinball loss of the {COVERAGES[0]:.2%} interval's ends")):
        ratios = {
            name: [own[place] / other[place] for own, other in zip(of, plain, strict=True)]
            for name, of in losses.items()
        }
        yield _compared(
            f"{family}: {what}, 1-{HORIZON} days ahead, / {PLAIN}",
            "<= 0.78",
            {name: Figure(median(of), _range(of)) for name, of in ratios.items()},
        )


def _losses(trial: Trial) -> tuple[float, float]:
    """In units of each template's noise, so that none counts for more than another."""
    panel, noise = trial.fleet.panel, trial.fleet.noise
    low, high = (1 - COVERAGES[0]) / 2, (1 + COVERAGES[0]) / 2
    ahead = trial.method.ahead(before(panel, JUDGED), COVERAGES[0])
    actual = panel.values[:, -JUDGED:][:, :HORIZON]
    yhat, below, above = ((actual - part[:, :HORIZON]) / noise for part in ahead)
    # The first day's upper end is lowered where a slow change is suspected: a bound for alarms, no quantile.
    ends = _pinball(below, low), _pinball(above[:, 1:], high)
    return float(np.nanmean(np.abs(yhat))), float(np.nanmean(np.concatenate(ends, axis=1)))


def _pinball(miss: Floats, level: float) -> Floats:
    return np.maximum(level * miss, (level - 1) * miss)


def upgrades(family: str, trials: Mapping[str, Sequence[Trial]]) -> Row:
    """False alarms in the 14 days that begin with a known upgrade, at each method's own nominal bound."""
    figures = {}
    for name, of in trials.items():
        after = [_alarms(watch_change(trial, known_upgrade, BUDGET)) for trial in of]
        calm = [_alarms(trial.method.watch(trial.fleet.panel, BUDGET)) for trial in of]
        value, text = _rates(after, BUDGET)
        figures[name] = Figure(value, f"{text}, without one {_rates(calm, BUDGET).text}")
    return _compared(f"{family}: false alarms in 14 d after a known upgrade / nominal", "<= 1.3", figures)


# Summaries over seeds -------------------------------------------------------------------------------------------------


class Figure(NamedTuple):
    """A number for the ratio column, and how it is told among others."""

    value: float | None
    text: str


def _compared(question: str, aim: str, figures: Mapping[str, Figure]) -> Row:
    """The first method's number is the ratio; the figures tell all methods'."""
    first = next(iter(figures.values()))
    return Row(question, first.value, aim, "; ".join(f"{name} {figure.text}" for name, figure in figures.items()))


def _share(shares: Sequence[Share]) -> Figure:
    """The median over seeds; its error is the binomial one of all seeds together."""
    known = [share for share in shares if share.of]
    if not known:
        return Figure(None, "judges none")
    hits, of = (sum(values) for values in zip(*known, strict=True))
    found = median(share.hits / share.of for share in known)
    return Figure(found, f"{found:.3f} ± {np.sqrt(hits / of * (1 - hits / of) / of):.3f}")


def _rates(shares: Sequence[Share], nominal: float) -> Figure:
    """A share as a multiple of the nominal one."""
    known = [share for share in shares if share.of]
    if not known:
        return Figure(None, "judges none")
    hits, of = (sum(values) for values in zip(*known, strict=True))
    found = median(share.hits / share.of for share in known) / nominal
    return Figure(found, f"{found:.2f} ± {np.sqrt(max(hits, 1)) / of / nominal:.2f}")


def _range(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"
