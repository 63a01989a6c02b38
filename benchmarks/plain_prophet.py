"""The yardstick: default `prophet.Prophet`, one fit a template, as the naive loop has it.

Belongs here: the package's own fits. Does not belong here: anything of assets.forecasts, which is what is measured.
"""

import logging
import tempfile
from datetime import date, timedelta
from typing import Any

import numpy as np

from assets.forecasts.panel import Floats

_NOISY_LOGGERS = ("prophet", "prophet.plot", "prophet.models", "cmdstanpy")


def forecast(values: Floats, first_day: date, days: int) -> tuple[Floats, Floats]:
    """`yhat` and the predictive sd of the days after each history; (n, days), NaN where Prophet raises.

    The sd is that of Prophet's own simulation law in closed form (observation noise and trend changes), so that it has
    no noise of its own.

    Args:
        values: (n, T) histories, NaN where nothing was scored.
        first_day: the date of the first column.
        days: how many to forecast.
    """
    yhat, sd = np.full((2, len(values), days), np.nan)
    for row, history in enumerate(values):
        try:
            yhat[row], sd[row] = _fit(history, first_day, days)
        except Exception:  # noqa: S112 - Stan's failures come as many types
            continue
    return yhat, sd


def naive(history: Floats, first_day: date, days: int) -> Floats:
    """`Prophet().fit(…)` and `predict(…)` with all defaults, its sampled interval included; returns `yhat`."""
    model, future = _fitted({}, history, first_day, days)
    return np.asarray(model.predict(future)["yhat"].to_numpy(dtype=float))


def _fit(history: Floats, first_day: date, days: int) -> tuple[Floats, Floats]:
    model, future = _fitted({"uncertainty_samples": 0}, history, first_day, days)
    yhat = model.predict(future)["yhat"].to_numpy(dtype=float)
    ahead = np.clip(((future["ds"] - model.start) / model.t_scale).to_numpy(dtype=float) - 1.0, 0.0, None)
    size = float(np.abs(model.params["delta"]).mean()) + 1e-8
    sigma = float(np.asarray(model.params["sigma_obs"]).mean())
    sd = np.sqrt(sigma**2 + len(model.changepoints_t) * 2 * size**2 * ahead**3 / 3) * float(model.y_scale)
    return yhat, np.asarray(sd, dtype=float)


def _fitted(settings: dict[str, Any], history: Floats, first_day: date, days: int) -> tuple[Any, Any]:
    """A fitted Prophet and the frame of the days after its history."""
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).disabled = True
    import pandas as pd
    from prophet import Prophet

    model = Prophet(**settings)
    frame = pd.DataFrame({"ds": pd.date_range(first_day, periods=len(history)), "y": history})
    # Stan leaves a folder a fit behind until the process ends.
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
        model.fit(frame.dropna(), output_dir=folder)
    return model, pd.DataFrame({"ds": pd.date_range(first_day + timedelta(days=len(history)), periods=days)})
