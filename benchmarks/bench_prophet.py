"""Prophet for every template at once: what it costs beside the loop over `prophet.Prophet`, and whether it is the same.

CPU seconds with children: Prophet's optimiser is a process of its own. The loop is measured on a few of the templates.
"""

import logging
import resource
import time
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from statistics import median

import numpy as np

from assets.forecasts.prophet_design import Floats
from assets.forecasts.prophet_fits import Fits
from assets.forecasts.prophet_map import STATUSES, fit, predict, quantile, spread
from assets.forecasts.prophet_reference import compare
from benchmarks.rows import Row
from benchmarks.warehouse_history import is_full

_FIRST_DAY = date(2024, 1, 1)
_HORIZON = 7
_REPEATS = 3
_LOST = 1e-4
_APART = 1e-3


def run() -> list[Row]:
    """1,000 templates of 90 and 365 days, 40 compared; with `--full` 10,000 of 90, 365 and 730 days, 2,000 compared."""
    full = is_full()
    templates, compared, looped = (10_000, 2_000, 20) if full else (1_000, 40, 5)
    rows = [_speed(templates, days, looped) for days in ((90, 365, 730) if full else (90, 365))]
    return [*rows, *_agreement(compared)]


def _speed(templates: int, days: int, looped: int) -> Row:
    values = ragged(templates, days, seed=days)
    batched = median(_cpu(partial(_all_at_once, values)) for _ in range(_REPEATS)) / templates
    logging.disable(logging.INFO)
    _by_prophet(values[0])  # the first imports it
    each = [_cpu(partial(_by_prophet, row)) for row in values[:looped]]
    logging.disable(logging.NOTSET)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Row(
        f"CPU of the loop over Prophet / of all templates at once, {days} days",
        median(each) / batched,
        ">= 400",
        f"{templates:,} templates: {batched * templates:.2f} s, process at {peak:.0f} MB; a template in the loop "
        f"{1000 * median(each):.0f} ms (median of {looped})",
    )


def _all_at_once(values: Floats) -> tuple[Fits, Floats, Floats, Floats]:
    fits = fit(values, _FIRST_DAY)
    new = _FIRST_DAY + timedelta(days=values.shape[1])
    return (
        fits,
        predict(fits, new, _HORIZON),
        spread(fits, new, _HORIZON),
        quantile(fits, new, _HORIZON, 0.999),
    )


def _by_prophet(values: Floats) -> object:
    import pandas as pd
    from prophet import Prophet

    frame = pd.DataFrame({"ds": pd.date_range(_FIRST_DAY, periods=len(values)), "y": values}).dropna()
    model = Prophet().fit(frame)
    # As the tutorials have it: the history is predicted too.
    return model.predict(model.make_future_dataframe(_HORIZON))


def _cpu(work: Callable[[], object]) -> float:
    started = _seconds()
    work()
    return _seconds() - started


def _seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _agreement(count: int) -> list[Row]:
    values = varied(count, seed=7)
    fits = fit(values, _FIRST_DAY)
    compared = compare(fits, values, count, seed=7)
    answered = np.isfinite(compared.gained)
    gained, apart, moved = (figures[answered] for figures in (compared.gained, compared.apart, compared.moved))
    # Where the density has no maximum both stop somewhere on its way up.
    bounded = np.array([STATUSES[fits.status[i]] == "fitted" for i in compared.templates[answered]])
    beside = f"{len(gained)} histories, Prophet failed on {len(compared.errors)}"
    return [
        Row(
            "histories with a log posterior below Prophet's - 1e-4 / all",
            float((gained < -_LOST).mean()),
            "0",
            f"{beside}; ours less Prophet's: least {gained.min():.1e}, median {np.median(gained):.2g}",
        ),
        Row(
            "largest move of yhat when Prophet goes on from ours / 1e-3 of the scale",
            float(moved[bounded].max() / _APART),
            "<= 1",
            f"{bounded.sum()} with a maximum; 99 % below {np.quantile(moved[bounded], 0.99):.1e}. From Prophet's own "
            f"end: median {np.median(apart[bounded]):.1e}, 99 % below {np.quantile(apart[bounded], 0.99):.1e}",
        ),
    ]


def ragged(templates: int, days: int, seed: int) -> Floats:
    """(n, T) autocorrelated scores with weekly waves and level shifts; half begin late, one day in 20 is missing."""
    generator = np.random.default_rng(seed)
    t = np.arange(days)
    noise = 0.02 * generator.standard_normal((templates, days))
    for day in range(1, days):
        noise[:, day] += 0.5 * noise[:, day - 1]
    values = generator.uniform(0.1, 0.4, (templates, 1)) + noise
    values += 0.03 * generator.random((templates, 1)) * np.sin(2 * np.pi * (t / 7 + generator.random((templates, 1))))
    values += generator.normal(0, 0.1, (templates, 1)) * (t >= generator.integers(0, days, (templates, 1)))
    values += generator.normal(0, 0.1, (templates, 1)) * t / days
    values = np.clip(values, 0.0, 1.0)
    values[generator.random(values.shape) < 1 / 20] = np.nan
    late = generator.integers(0, days // 2, (templates, 1)) * (generator.random((templates, 1)) < 0.5)  # noqa: PLR2004
    return np.where(t < late, np.nan, values)


def varied(count: int, seed: int) -> Floats:
    """(n, T) histories of 2 to 900 days: short, long, gappy, stepped, bursty, rounded, of 0 and 1, of one weekday."""
    generator = np.random.default_rng(seed)
    made = np.full((count, 900), np.nan)
    row = 0
    while row < count:
        values = _history(generator)
        seen = values[~np.isnan(values)]
        # Prophet optimises nothing for the others.
        if len(seen) > 1 and seen.min() < seen.max():
            made[row, 900 - len(values) :] = values
            row += 1
    return made


def _history(generator: np.random.Generator) -> Floats:
    def sometimes(share: float) -> bool:
        return bool(generator.random() < share)

    lengths = [2, 3, 5, 8, 12, 14, 15, 16, 20, 24, 30, 40, 60, 90, 120, 200, 365, 500, 730, 731, 760, 900]
    days = int(generator.choice(lengths))
    t = np.arange(days)
    sd = generator.choice([0.001, 0.01, 0.03, 0.08])
    values = generator.uniform(0.05, 0.6) + sd * generator.standard_normal(days)
    values += sometimes(0.5) * sd * generator.uniform(0, 3) * np.sin(2 * np.pi * (t + generator.integers(7)) / 7)
    values += sometimes(0.3) * sd * generator.uniform(0, 5) * np.sin(2 * np.pi * t / 365.25 + generator.uniform(0, 6))
    values += sometimes(0.4) * generator.normal(0, 0.2) * t / days
    values += sometimes(0.4) * generator.normal(0, 0.2) * np.maximum(t - generator.integers(days), 0) / days
    values += sometimes(0.3) * generator.normal(0, 0.1) * (t >= generator.integers(days))
    values += sometimes(0.2) * np.cumsum(generator.standard_normal(days)) * sd / 3
    if sometimes(0.2):
        values[generator.integers(days, size=max(1, days // 30))] += generator.uniform(0.3, 5)
    bounded = np.clip(values, 0, 1)
    kinds: list[Floats] = [bounded, np.round(bounded, 1), (values > np.median(values)).astype(float), values]
    values = kinds[generator.choice(4, p=[0.7, 0.1, 0.1, 0.1])].copy()
    if sometimes(0.5):
        values[generator.random(days) < generator.choice([0.05, 0.2, 0.6])] = np.nan
    if sometimes(0.15):
        gap = generator.integers(days)
        values[gap : gap + generator.integers(1, days // 2 + 2)] = np.nan
    if sometimes(0.05):
        values[t % 7 != 0] = np.nan
    return values
