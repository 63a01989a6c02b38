"""The naive loop's one turn: `prophet.Prophet` with all defaults.

Belongs here: the package as its users call it. Does not belong here: anything of assets.forecasts.
"""

import logging
import tempfile
from datetime import date, timedelta

import numpy as np

from assets.forecasts.panel import Floats

_NOISY_LOGGERS = ("prophet", "prophet.plot", "prophet.models", "cmdstanpy")


def naive(history: Floats, first_day: date, days: int) -> Floats:
    """`Prophet().fit(…)` and `predict(…)`, its sampled interval included; returns `yhat` of the days after.

    Args:
        history: (T,), NaN where nothing was scored.
        first_day: the date of the first.
        days: how many to forecast.
    """
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).disabled = True
    import pandas as pd
    from prophet import Prophet

    model = Prophet()
    frame = pd.DataFrame({"ds": pd.date_range(first_day, periods=len(history)), "y": history})
    # Stan leaves a folder a fit behind until the process ends.
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
        model.fit(frame.dropna(), output_dir=folder)
    future = pd.DataFrame({"ds": pd.date_range(first_day + timedelta(days=len(history)), periods=days)})
    return np.asarray(model.predict(future)["yhat"].to_numpy(dtype=float))
