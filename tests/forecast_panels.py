"""Small seeded panels for the tests of the pure judgement."""

import uuid
from dataclasses import replace
from datetime import date

import numpy as np

from assets.forecasts.history import Subject
from assets.forecasts.panel import Panel

FIRST_DAY = date(2025, 1, 1)


def panel_of(values: np.ndarray, counts: np.ndarray | None = None) -> Panel:
    """Values of any kind as a panel: two tenants by turns, no events, 100 evaluations a day."""
    rows = range(len(values))
    subjects = tuple(Subject(f"tenant-{row % 2}", uuid.UUID(int=row + 1), f"template-{row}") for row in rows)
    if counts is None:
        counts = np.where(np.isnan(values), 0.0, 100.0)
    return Panel(subjects, FIRST_DAY, values, counts, np.zeros(values.shape, dtype=bool))


def calm(templates: int, days: int, seed: int = 0, correlation: float = 0.4) -> np.ndarray:
    """Scores around 0.2 with weekdays and autocorrelated noise; some days missing, some templates young."""
    random = np.random.default_rng(seed)
    shocks = random.standard_normal((templates, days + 30))
    noise = np.zeros_like(shocks)
    for day in range(1, days + 30):
        noise[:, day] = correlation * noise[:, day - 1] + np.sqrt(1 - correlation**2) * shocks[:, day]
    week = 0.5 * random.standard_normal((templates, 7))
    size = 0.02 * np.exp(random.normal(0, 0.3, (templates, 1)))
    values = random.uniform(0.1, 0.3, (templates, 1)) + size * (noise[:, 30:] + week[:, np.arange(days) % 7])
    values[random.random(values.shape) < 0.03] = np.nan
    starts = random.integers(0, days // 2, templates) * (np.arange(templates) % 3 == 0)
    values[np.arange(days) < starts[:, None]] = np.nan
    return np.clip(values, 0, 1)


def rows_of(panel: Panel, rows: np.ndarray) -> Panel:
    """Some of a panel's templates, in any order."""
    return replace(
        panel,
        subjects=tuple(panel.subjects[row] for row in rows),
        values=panel.values[rows],
        counts=panel.counts[rows],
        events=panel.events[rows],
    )


def until(panel: Panel, days: int) -> Panel:
    """The panel's first days."""
    return replace(panel, values=panel.values[:, :days], counts=panel.counts[:, :days], events=panel.events[:, :days])
