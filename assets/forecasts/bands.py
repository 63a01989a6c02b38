"""Bands: the drift to expect of given days and the two-sigma bounds around it, from one history.

Belongs here: Prophet and the z-score, as pure functions with the same numbers for the same history, always. Does not
belong here: which history a day may be judged by (engine.py).
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from assets.forecasts.history import History

if TYPE_CHECKING:
    import pandas as pd

INTERVAL = 0.9545  # two sigma; Prophet's own default of 80 % alarms on every tenth ordinary day
Z = NormalDist().inv_cdf((1 + INTERVAL) / 2)
# Half a point of drift: without a floor a constant history has a band of 1e-9 and alarms on rounding.
MIN_HALF_WIDTH = 0.005
# Whatever changes the numbers for an unchanged history belongs in here: stored bands of another recipe are not reused.
RECIPES = {
    "prophet": f"prophet {version('prophet')}, interval {INTERVAL}, closed form, floor {MIN_HALF_WIDTH}",
    "zscore": f"zscore, interval {INTERVAL}, floor {MIN_HALF_WIDTH}",
}
_SEED = 20_260_101
_NOISY_LOGGERS = ("prophet", "prophet.plot", "prophet.models", "cmdstanpy")


class Band(NamedTuple):
    """The expected drift of one day and its bounds, all in [0, 1], lower <= yhat <= upper."""

    yhat: float
    lower: float
    upper: float


class FitError(Exception):
    """A model could not be fitted to a history; the message says why."""


def zscore_bands(history: History, days: Sequence[date]) -> list[Band]:
    """Mean and mean +- two sample standard deviations of the history, the same for each of `days`.

    Raises:
        FitError: the history is empty.
    """
    if not history.days:
        raise FitError("no days to take a mean of")
    values = np.array(history.values)
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return [_band(float(values.mean()), Z * spread)] * len(days)


def prophet_bands(history: History, days: Sequence[date]) -> list[Band]:
    """Prophet's forecast of `days` with its predictive interval in closed form.

    The fit and `yhat` are `prophet.Prophet`'s own: weekly seasonality where the days carry one, yearly from two years
    of history on, no daily. Its interval is not sampled: the variance of its own simulation law (observation noise, and
    trend changes of Laplace size at its changepoint rate) is computed, so that the same history gives the same bounds.

    Args:
        history: at least two days.
        days: dates after the history's last.

    Raises:
        FitError: Prophet refused the history, its optimiser failed, or its forecast isn't finite.
    """
    try:
        expected, half_widths = _fit_and_predict(history, days)
    except Exception as error:  # Stan's failures come as many types, and one template must not fail the others.
        raise FitError(f"Prophet failed: {type(error).__name__}: {error}") from error
    if not (np.isfinite(expected).all() and np.isfinite(half_widths).all()):
        raise FitError("Prophet's forecast is not finite")
    return [_band(float(yhat), float(half)) for yhat, half in zip(expected, half_widths, strict=True)]


Floats = npt.NDArray[np.float64]


def _fit_and_predict(history: History, days: Sequence[date]) -> tuple[Floats, Floats]:
    with _quiet(), tempfile.TemporaryDirectory(prefix="tidemark-prophet-") as folder:
        import pandas as pd
        from prophet import Prophet

        model = Prophet(interval_width=INTERVAL, daily_seasonality=False, uncertainty_samples=0)
        frame = pd.DataFrame({"ds": _timestamps([day.date for day in history.days]), "y": history.values})
        # Stan leaves a folder a fit behind until the process ends; a daemon's process doesn't.
        model.fit(frame, seed=_SEED, output_dir=folder)
        predicted = model.predict(pd.DataFrame({"ds": _timestamps(days)}))
        order = np.argsort(np.array(days, dtype="datetime64[D]"), kind="stable")
        expected = np.empty(len(days))
        expected[order] = predicted["yhat"].to_numpy(dtype=float)  # predict() answers in order of date
        return expected, Z * _predictive_sd(model, days)


def _predictive_sd(model: Any, days: Sequence[date]) -> Floats:
    """Standard deviation of Prophet's simulation law: sigma^2 + S * 2 lambda^2 * h^3 / 3, h the scaled time ahead."""
    ahead = np.clip((_timestamps(days) - model.start) / model.t_scale - 1.0, 0.0, None).to_numpy(dtype=float)
    changes = len(model.changepoints_t)
    size = float(np.abs(model.params["delta"]).mean()) + 1e-8
    sigma = float(np.asarray(model.params["sigma_obs"]).mean())
    sd = np.sqrt(sigma**2 + changes * 2 * size**2 * ahead**3 / 3)
    return np.asarray(sd * float(model.y_scale), dtype=float)


def _band(yhat: float, half_width: float) -> Band:
    half = max(half_width, MIN_HALF_WIDTH)
    return Band(*(min(max(value, 0.0), 1.0) for value in (yhat, yhat - half, yhat + half)))


def _timestamps(days: Sequence[date]) -> "pd.DatetimeIndex":
    import pandas as pd

    return pd.DatetimeIndex(np.array(days, dtype="datetime64[D]").astype("datetime64[ns]"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Prophet's and Stan's progress out of the run's log, and leave the loggers as they were.

    Disabled rather than raised in level: both packages set their levels anew when they are first used.
    """
    loggers = [logging.getLogger(name) for name in _NOISY_LOGGERS]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
