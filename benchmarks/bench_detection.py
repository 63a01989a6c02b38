"""Do alarms come as rarely as was asked for, and how much do they find at an equal number of false ones?

On seeded fleets (forecast_series.py), each figure the median over seeds with its binomial standard error, for the
judgement of assets.forecasts beside the plain rule (default Prophet's bound) and a z-score over 30 days.

- False alarms: the days of ages 14, 30, 60, 90 and 365 of one fleet of all families, nothing put into them.
- Recall: a change befalls every fifth template on the first of 14 judged days, its history being 30 to 180 days long.
  Every method's bound is moved until it makes one false alarm in 180 template-days of the same fleet without the
  change; then the share of those templates with an alarm within the window is its recall. A coin finds
  1 - (179/180)^window.
- Prophet is fitted on a sample of the templates, being the dear one; its bound is moved on that sample.
- Error: of the first seven judged days, forecast from the day before the first, in units of each template's noise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

import numpy as np

from assets.forecasts.panel import Bools
from benchmarks.forecast_methods import METHODS, Method, Watched, before, some_of
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
HISTORY = 194
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


class Share(NamedTuple):
    """So many of so many."""

    hits: int
    of: int


@dataclass(frozen=True)
class _Size:
    """`calm` and `fits` are templates of a family, and of a recall's fleet, that Prophet is fitted to."""

    seeds: int
    of_family: int
    calm: int
    templates: int
    fits: int
    families: tuple[str, ...]

    def calm_of(self, name: str) -> int:
        """Templates of a family for a method."""
        return self.calm if name == PLAIN else self.of_family


def run() -> list[Row]:
    """3 seeds of 400 templates, 60 of them by Prophet; with `--full` 5 of 2,000, 300 by Prophet, six families."""
    some = (MIXTURE, "stationary", "weekly", "AR(1) .6", "heavy tails", "noise by count")
    size = _Size(5, 400, 20, 2000, 300, some) if is_full() else _Size(3, 50, 5, 400, 60, (MIXTURE,))
    methods = {name: make() for name, make in METHODS.items()}
    rows = list(false_alarms(methods, size))
    for family in size.families:
        fleets = [make_fleet(family, size.templates, HISTORY, seed) for seed in range(size.seeds)]
        few = [Fleet(some_of(fleet.panel, slice(size.fits)), fleet.noise[: size.fits]) for fleet in fleets]
        fleets_of = {name: few if name == PLAIN else fleets for name in methods}
        rows += recalls(family, methods, fleets_of)
        rows += errors(family, methods, few)
        rows.append(upgrades(family, methods, fleets_of))
    return rows


# False alarms and coverage --------------------------------------------------------------------------------------------


def false_alarms(methods: Mapping[str, Method], size: "_Size") -> Iterator[Row]:
    """Realised against nominal: by rate, by age, by family, over templates; and the coverage of intervals."""
    calm = {name: _Calm(method, size.calm_of(name), size.seeds) for name, method in methods.items()}
    for rate in RATES:
        figures = {name: _rates([_alarms(seen) for seen in of.by_rate[rate]], rate) for name, of in calm.items()}
        yield _compared(f"false alarms / nominal, 1 in {1 / rate:.0f} days", "0.9-1.1", figures)
    groups = [(f"age {age}", {name: of.age == age for name, of in calm.items()}) for age in AGES]
    groups += [(kind, {name: of.family == kind for name, of in calm.items()}) for kind in FAMILIES]
    for group, rows in groups:
        figures = {
            name: _rates([_alarms(seen, rows[name]) for seen in of.by_rate[BUDGET]], BUDGET)
            for name, of in calm.items()
        }
        aim = "0.8-1.25" if group.startswith("age") else ""
        yield _compared(f"false alarms / nominal, 1 in 180 days, {group}", aim, figures)
        for level in COVERAGES if group.startswith("age") else COVERAGES[:1]:
            figures = {
                name: _share([_covered(seen, level, rows[name]) for seen in of.by_rate[BUDGET]])
                for name, of in calm.items()
            }
            yield _compared(f"coverage of the {level:.2%} interval, {group}", f"{level:.4g} ± 0.01", figures)
    spreads = {name: [_spread(seen) for seen in of.by_rate[RATES[0]]] for name, of in calm.items()}
    yield _compared(
        "variance / mean over templates of alarms, 1 in 60 days",
        "<= 1.2",
        {name: Figure(median(of), _range(of)) for name, of in spreads.items()},
    )


class _Calm:
    """What a method says of fleets of all families and AGES into which nothing was put."""

    def __init__(self, method: Method, of_family: int, seeds: int) -> None:
        ages = np.resize(np.array(AGES), of_family)
        fleets = [
            joined(make_fleet(kind, of_family, max(AGES) + JUDGED, seed, ages + JUDGED) for kind in FAMILIES)
            for seed in range(seeds)
        ]
        self.by_rate = {rate: [method.watch(fleet.panel, JUDGED, rate) for fleet in fleets] for rate in RATES}
        self.age = np.tile(ages, len(FAMILIES))
        self.family = np.repeat(list(FAMILIES), of_family)


def _alarms(seen: Watched, rows: Bools | slice = slice(None)) -> Share:
    judged = np.isfinite(seen.excess[rows])
    return Share(int((seen.excess[rows][judged] > 0).sum()), int(judged.sum()))


def _covered(seen: Watched, level: float, rows: Bools) -> Share:
    p = seen.p_value[rows]
    p = p[np.isfinite(p)]
    tail = (1 - level) / 2
    return Share(int(((p >= tail) & (p <= 1 - tail)).sum()), p.size)


def _spread(seen: Watched) -> float:
    alarms = (np.nan_to_num(seen.excess, nan=-1.0) > 0).sum(axis=1)
    return float(alarms.var(ddof=1) / alarms.mean()) if alarms.any() else 0.0


# Recall ---------------------------------------------------------------------------------------------------------------


def recalls(family: str, methods: Mapping[str, Method], fleets: Mapping[str, Sequence[Fleet]]) -> Iterator[Row]:
    """Of each change, at an equal number of false alarms; then after an incident, against without one."""
    cuts = {
        name: equal_budget([method.watch(fleet.panel, JUDGED, BUDGET) for fleet in fleets[name]])
        for name, method in methods.items()
    }
    seen = {
        (name, change): [watch_change(method, fleet, change, _every(name)) for fleet in fleets[name]]
        for change in {change for change, _, _ in SOUGHT} | {change for change, _, _ in AFTER_INCIDENT}
        for name, method in methods.items()
        # A fit that has swallowed an incident costs as much as any and finds nothing.
        if not (name == PLAIN and change in {after for after, _, _ in AFTER_INCIDENT})
    }
    for change, window, aim in SOUGHT:
        figures = {}
        for name, cut in cuts.items():
            found = [recall(of_seed, window, cut) for of_seed in seen[name, change]]
            share, text = _share([of_seed for of_seed, _ in found])
            delays = [day for _, days in found for day in days]
            figures[name] = Figure(share, f"{text}, after {median(delays):.0f} d" if delays else text)
        question = f"{family}: recall of {change.__name__} within {window} d, 1 false alarm in 180 d"
        yield _compared(question, aim, figures)
    for change, clean, window in AFTER_INCIDENT:
        figures = {}
        for name, cut in cuts.items():
            if (name, change) in seen:
                after, at_rest = (
                    _share([recall(of_seed, window, cut)[0] for of_seed in seen[name, kind]])
                    for kind in (change, clean)
                )
                ratio = after.value / at_rest.value if after.value is not None and at_rest.value else None
                figures[name] = Figure(ratio, f"{after.text} / {at_rest.text}")
        yield _compared(f"{family}: recall of {change.__name__} / of {clean.__name__}", ">= 0.9", figures)


def _every(name: str) -> int:
    """Prophet looks at each template alone, so all of its few can be changed at once."""
    return 1 if name == PLAIN else 5


def equal_budget(calm: Sequence[Watched]) -> float:
    """The excess above which one in 180 of these days lies."""
    excess = np.concatenate([seen.excess[np.isfinite(seen.excess)] for seen in calm])
    return float(np.quantile(excess, 1 - BUDGET))


def watch_change(method: Method, fleet: Fleet, change: Change, every: int) -> Watched:
    """What is said of every so many-th template, which the change befalls; a fleet that changes as one is no fleet."""
    start = fleet.panel.values.shape[1] - JUDGED
    befallen = np.arange(len(fleet.panel.values)) % every == 0
    changed = change(fleet, start)
    values, events = (
        np.where(befallen[:, None], after, calm)
        for after, calm in ((changed.values, fleet.panel.values), (changed.events, fleet.panel.events))
    )
    seen = method.watch(replace(fleet.panel, values=values, events=events), JUDGED, BUDGET)
    return Watched(seen.p_value[befallen], seen.excess[befallen])


def recall(seen: Watched, window: int, cut: float) -> tuple[Share, list[float]]:
    """Templates with an alarm within the window, of those scored in it; and the day of each one's first, from 1."""
    excess = seen.excess[:, :window]
    alarms = np.nan_to_num(excess, nan=-np.inf) > cut
    hit = alarms.any(axis=1)
    days: list[float] = (alarms[hit].argmax(axis=1) + 1.0).tolist()
    return Share(int(hit.sum()), int(np.isfinite(excess).any(axis=1).sum())), days


# Errors and events ----------------------------------------------------------------------------------------------------


def errors(family: str, methods: Mapping[str, Method], fleets: Sequence[Fleet]) -> Iterator[Row]:
    """Of the first seven judged days, forecast from the day before, against plain Prophet's on the same templates."""
    losses = {name: [_losses(method, fleet) for fleet in fleets] for name, method in methods.items()}
    plain = losses[PLAIN]
    for place, what in enumerate(("absolute error", f"pinball loss of the {COVERAGES[0]:.2%} interval's upper end")):
        ratios = {
            name: [own[place] / other[place] for own, other in zip(of, plain, strict=True)]
            for name, of in losses.items()
            if name != PLAIN
        }
        yield _compared(
            f"{family}: {what}, 1-7 days, / {PLAIN}",
            "<= 0.78",
            {name: Figure(median(of), _range(of)) for name, of in ratios.items()},
        )


def _losses(method: Method, fleet: Fleet) -> tuple[float, float]:
    """In units of each template's noise, so that none counts for more than another."""
    level = (1 + COVERAGES[0]) / 2
    actual = fleet.panel.values[:, -JUDGED:][:, :HORIZON]
    # As many days as are judged, because Prophet's fits for them are there already.
    ahead = method.ahead(before(fleet.panel, JUDGED), JUDGED, level)
    point = np.abs(actual - ahead.yhat[:, :HORIZON]) / fleet.noise
    miss = (actual - ahead.upper[:, :HORIZON]) / fleet.noise
    pinball = np.maximum(level * miss, (level - 1) * miss)
    return float(np.nanmean(point)), float(np.nanmean(pinball))


def upgrades(family: str, methods: Mapping[str, Method], fleets: Mapping[str, Sequence[Fleet]]) -> Row:
    """False alarms in the 14 days that begin with a known upgrade, at each method's own nominal bound."""
    figures = {}
    for name, method in methods.items():
        after = [_alarms(watch_change(method, fleet, known_upgrade, _every(name))) for fleet in fleets[name]]
        calm = [_alarms(method.watch(fleet.panel, JUDGED, BUDGET)) for fleet in fleets[name]]
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
