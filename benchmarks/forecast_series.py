"""Seeded fleets of daily scores whose every property is known, and changes of known size put into them.

A score is the mean of a day's evaluations: a structure and a noise between days on the logit scale, and the noise
within the day that its number of evaluations leaves. Sizes are in units of a template's own noise: the standard
deviation, over its days, of the score around its structure (an autocorrelated noise's whole, not its innovations').

Belongs here: making series. Does not belong here: judging them (forecast_methods.py, bench_detection.py).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from uuid import UUID

import numpy as np
import numpy.typing as npt
from scipy import signal, special

from assets.forecasts.history import Subject
from assets.forecasts.panel import Floats, Panel

LAST_DAY = date(2026, 5, 6)
RAMP_DAYS, BURST_DAYS, INCIDENT_DAYS = 14, 3, 7
# An incident is over this long before the first judged day, so that all of it lies in what a method learns from.
INCIDENT_ENDS = 3
_BURN_IN = 50
# 30 days before the two weeks that are judged.
_YOUNGEST = 44
_MISSING = 0.03
_NO_WEEKENDS = 0.1
_FEWEST, _MOST = 5, 5000

Ints = npt.NDArray[np.int64]
Random = np.random.Generator


@dataclass(frozen=True)
class Fleet:
    """A panel with what only its maker knows.

    Attributes:
        panel: what a method may see.
        noise: (n, 1) standard deviation of each template's score around its structure, in score units.
    """

    panel: Panel
    noise: Floats


@dataclass(frozen=True)
class Family:
    """A kind of series; every function answers for n templates.

    Attributes:
        level: centre and spread over templates of the level, on the logit scale.
        noise: centre and relative spread over templates of the noise between days, on the logit scale.
        correlation: of one day's noise with the next; (n,).
        shocks: (n, days) independent, variance 1.
        structure: (n, days) what the expected score does, in units of the noise between days.
        counts: fewest and most evaluations of an ordinary day over templates.
        uneven: how far a template's number of evaluations moves from day to day, as the sd of its logarithm.
    """

    level: tuple[float, float] = (-1.7, 0.6)
    noise: tuple[float, float] = (0.25, 0.4)
    correlation: Callable[[Random, int], Floats] = lambda _, n: np.zeros(n)
    shocks: Callable[[Random, int, int], Floats] = lambda random, n, days: random.standard_normal((n, days))
    structure: Callable[[Random, int, int], Floats] = lambda _, n, days: np.zeros((n, days))
    counts: tuple[int, int] = (_FEWEST, _MOST)
    uneven: float = 0.2


def _correlated(value: float) -> Family:
    return Family(correlation=lambda _, n: np.full(n, value))


def _student(random: Random, n: int, days: int, freedom: float = 3.0) -> Floats:
    return np.asarray(random.standard_t(freedom, (n, days)) / np.sqrt(freedom / (freedom - 2)))


def _weekly(random: Random, n: int, days: int) -> Floats:
    """Each weekday its own level; the newest column is LAST_DAY, a Wednesday."""
    effect = random.standard_normal((n, 7))
    return np.asarray(effect[:, (np.arange(days) - days + 1 + LAST_DAY.weekday()) % 7])


def _yearly(random: Random, n: int, days: int) -> Floats:
    phase = random.uniform(0, 2 * np.pi, (n, 1))
    return np.asarray(2 * np.sin(2 * np.pi * np.arange(days) / 365.25 + phase))


def _trend(random: Random, n: int, days: int) -> Floats:
    """Straight for a hundred days or so, then another slope; a slope moves 1 noise sd in 50 days or so."""
    turns = random.random((n, days)) < 1 / 100
    turns[:, 0] = True
    slopes = np.where(turns, random.normal(0, 1 / 50, (n, days)), 0.0)
    # The slope in force on a day is that of the newest turn.
    newest = np.maximum.accumulate(np.where(turns, np.arange(days), 0), axis=1)
    return np.asarray(np.cumsum(np.take_along_axis(slopes, newest, axis=1), axis=1))


def _some(random: Random, n: int, share: float) -> Floats:
    return np.asarray((random.random((n, 1)) < share).astype(float))


def _mixed_structure(random: Random, n: int, days: int) -> Floats:
    return np.asarray(
        _some(random, n, 0.6) * random.uniform(0.3, 1.5, (n, 1)) * _weekly(random, n, days)
        + _some(random, n, 0.2) * _yearly(random, n, days)
        + _some(random, n, 0.3) * _trend(random, n, days)
    )


def _mixed_shocks(random: Random, n: int, days: int) -> Floats:
    heavy = _some(random, n, 0.5)
    return np.asarray(heavy * _student(random, n, days, 3.5) + (1 - heavy) * random.standard_normal((n, days)))


MIXTURE = "mixture"
FAMILIES: Mapping[str, Family] = {
    "stationary": Family(),
    "weekly": Family(structure=_weekly),
    "yearly": Family(structure=_yearly),
    "AR(1) .3": _correlated(0.3),
    "AR(1) .6": _correlated(0.6),
    "AR(1) .8": _correlated(0.8),
    "heavy tails": Family(shocks=_student),
    "noise by count": Family(noise=(0.05, 0.4), counts=(5, 100), uneven=1.0),
    "trends": Family(structure=_trend),
    "near 0": Family(level=(-4.5, 0.5), noise=(0.4, 0.4)),
    "near 1": Family(level=(4.0, 0.5), noise=(0.4, 0.4)),
    MIXTURE: Family(
        correlation=lambda random, n: random.uniform(0, 0.8, n),
        shocks=_mixed_shocks,
        structure=_mixed_structure,
        uneven=0.5,
    ),
}


def make_fleet(family: str, templates: int, days: int, seed: int, ages: Ints | None = None) -> Fleet:
    """A fleet that ends on LAST_DAY; the same arguments give the same bytes.

    Args:
        family: one of FAMILIES.
        templates: how many.
        days: T, calendar days.
        seed: of all that is random.
        ages: (n,) days from each template's first score to the newest day, both counted; evenly from 44 to T if
            None.
    """
    random = np.random.default_rng([seed, *family.encode()])
    of = FAMILIES[family]
    level = random.normal(*of.level, (templates, 1))
    noise = of.noise[0] * np.exp(random.normal(0, of.noise[1], (templates, 1)))
    centre = special.expit(level + noise * of.structure(random, templates, days))
    between = noise * _autoregressive(of, random, templates, days)
    counts = _counts(of, random, templates, days)
    values = _means(random, special.expit(special.logit(centre) + between), counts)
    sd = (values - centre).std(axis=1, keepdims=True)
    scored = _scored(random, templates, days, ages)
    panel = Panel(
        subjects=tuple(
            Subject(f"tenant-{row % 5}", UUID(int=seed << 64 | row), f"template-{row}") for row in range(templates)
        ),
        first_day=LAST_DAY - timedelta(days=days - 1),
        values=np.where(scored, values, np.nan),
        counts=np.where(scored, counts, 0.0),
        events=np.zeros(values.shape, dtype=bool),
    )
    return Fleet(panel, sd)


def joined(fleets: Iterable[Fleet]) -> Fleet:
    """One fleet of several of the same length, in order; their templates stay apart."""
    parts = list(fleets)
    panels = [part.panel for part in parts]
    panel = Panel(
        subjects=tuple(
            subject._replace(template_id=UUID(int=place << 96 | subject.template_id.int))
            for place, some in enumerate(panels)
            for subject in some.subjects
        ),
        first_day=panels[0].first_day,
        values=np.concatenate([some.values for some in panels]),
        counts=np.concatenate([some.counts for some in panels]),
        events=np.concatenate([some.events for some in panels]),
    )
    return Fleet(panel, np.concatenate([part.noise for part in parts]))


def _autoregressive(of: Family, random: Random, templates: int, days: int) -> Floats:
    """Noise of variance 1."""
    shocks = of.shocks(random, templates, days + _BURN_IN)
    noise = np.empty((templates, days))
    for row, correlation in enumerate(of.correlation(random, templates)):
        scale = np.sqrt(1 - correlation**2)
        noise[row] = signal.lfilter([scale], [1, -correlation], shocks[row])[_BURN_IN:]
    return noise


def _counts(of: Family, random: Random, templates: int, days: int) -> Floats:
    few, many = np.log(of.counts)
    usual = np.exp(random.uniform(few, many, (templates, 1)))
    return np.asarray(np.clip(np.round(usual * np.exp(random.normal(0, of.uneven, (templates, days)))), 1, None))


def _means(random: Random, expected: Floats, counts: Floats) -> Floats:
    """Day means of `counts` beta-distributed evaluations: a beta of the same mean and variance stands for their sum."""
    within = random.uniform(3, 12, (len(expected), 1))
    worth = counts * (within + 1) - 1
    return np.asarray(random.beta(np.maximum(expected * worth, 1e-9), np.maximum((1 - expected) * worth, 1e-9)))


def _scored(random: Random, templates: int, days: int, ages: Ints | None) -> npt.NDArray[np.bool_]:
    """Which days have a score: from a template's first day on, some missing, some templates without weekends."""
    if ages is None:
        ages = random.integers(min(_YOUNGEST, days), days + 1, templates)
    day = np.arange(days)
    weekend = (day - days + 1 + LAST_DAY.weekday()) % 7 >= 5  # noqa: PLR2004
    missing = (random.random((templates, days)) < _MISSING) | (weekend & (random.random((templates, 1)) < _NO_WEEKENDS))
    first = days - ages[:, None]
    return np.asarray((day >= first) & (~missing | (day == first)))


# Changes --------------------------------------------------------------------------------------------------------------

Change = Callable[[Fleet, int], Panel]


def _added(fleet: Fleet, start: int, sizes: Floats) -> Panel:
    """`sizes` of noise sd, one a day from column `start` on, in the score, which stays within [0, 1]."""
    values = fleet.panel.values.copy()
    length = min(sizes.shape[-1], values.shape[1] - start)
    part = values[:, start : start + length]
    values[:, start : start + length] = np.clip(part + fleet.noise * sizes[..., :length], 0, 1)
    return replace(fleet.panel, values=values)


def _lasting(fleet: Fleet, start: int, sizes: Floats) -> Panel:
    """As `_added`, the last size going on to the end."""
    days = fleet.panel.values.shape[1] - start
    return _added(fleet, start, np.pad(sizes, (0, max(days - len(sizes), 0)), mode="edge"))


def spike(fleet: Fleet, start: int) -> Panel:
    """5 sd on one day."""
    return _added(fleet, start, np.array([5.0]))


def burst(fleet: Fleet, start: int) -> Panel:
    """3 sd on three days."""
    return _added(fleet, start, np.full(BURST_DAYS, 3.0))


def shift(fleet: Fleet, start: int) -> Panel:
    """2 sd from `start` on."""
    return _lasting(fleet, start, np.array([2.0]))


def ramp(fleet: Fleet, start: int) -> Panel:
    """To 3 sd over 14 days, then there."""
    return _lasting(fleet, start, np.linspace(0, 3, RAMP_DAYS + 1)[1:])


def change_of_season(fleet: Fleet, start: int) -> Panel:
    """From `start` on two weekdays, not the same for all templates, lie 3 sd higher and two others 3 sd lower."""
    days = fleet.panel.values.shape[1] - start
    week = np.array([3.0, 3.0, 0.0, -3.0, -3.0, 0.0, 0.0])
    rows = np.arange(len(fleet.panel.values))[:, None]
    return _added(fleet, start, week[(np.arange(days) + rows) % 7])


def known_upgrade(fleet: Fleet, start: int) -> Panel:
    """A lasting step of 2 sd, up for half of the templates and down for the others, with its event."""
    days = fleet.panel.values.shape[1] - start
    sign = np.where(np.arange(len(fleet.panel.values)) % 2, 2.0, -2.0)[:, None]
    events = fleet.panel.events.copy()
    events[:, start] = True
    return replace(_added(fleet, start, np.repeat(sign, days, axis=1)), events=events)


def incident(fleet: Fleet, start: int) -> Panel:
    """6 sd for a week that ended INCIDENT_ENDS days before `start`; nothing from `start` on."""
    return _added(fleet, start - INCIDENT_ENDS - INCIDENT_DAYS, np.full(INCIDENT_DAYS, 6.0))


def spike_after_incident(fleet: Fleet, start: int) -> Panel:
    """The week's incident, its recovery, and then 5 sd on one day."""
    return spike(replace(fleet, panel=incident(fleet, start)), start)


def shift_after_incident(fleet: Fleet, start: int) -> Panel:
    """The week's incident, its recovery, and then 2 sd from `start` on."""
    return shift(replace(fleet, panel=incident(fleet, start)), start)
