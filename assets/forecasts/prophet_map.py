"""Prophet's maximum a posteriori fits and forecasts for many templates at once: the face of the prophet_* modules.

The same model as `prophet.Prophet` (growth linear or flat, additive seasonality), without its loop, files and
processes: preprocessing in prophet_design.py, the maximum in prophet_solver.py, bounds in prophet_spread.py. Settings
that these don't serve (holidays, logistic growth, multiplicative seasonality) are fitted by Prophet itself, in a pool
of processes, behind the same functions; its spread and quantiles are those of 1,000 samples from a fixed seed.

What becomes of a history that is no ordinary one:

| history | fit |
| --- | --- |
| nothing observed | `empty`: forecast and spread are NaN |
| one day | `point`: that value for ever, spread NaN: nothing tells how days scatter |
| constant | `constant`: that value, spread 1e-9 of the scale, as Prophet has it |
| a few days, or a pure wave, which the model goes through | as fitted where the density has a peak of its own; else |
|     | `exact`: there is no maximum, the noise stops at `SIGMA_FLOOR` of the scale |
| infinite values | refused: ValueError naming template and day |
| gaps, also long ones | days are placed by the calendar, changepoints by observed days, as Prophet does |
| extreme outliers, only 0 and 1 | as Prophet: they are fitted and widen the noise |
| a weight of 0 | the day counts as not observed; other weights multiply the day's precision |
| Prophet itself fails (other settings only) | `failed`, the reason in `Fits.errors`; forecast and spread are NaN |
| the same day twice | can't occur: one column a day |
"""

from datetime import date

import numpy as np

from assets.forecasts import prophet_fits, prophet_spread
from assets.forecasts.prophet_design import NEVER, Floats, Ints, Settings
from assets.forecasts.prophet_fits import FAILED, FITTED, STATUSES, Components, Fits
from assets.forecasts.prophet_reference import Forecast, Job, fit_one, forecast_one, in_pool

__all__ = ["STATUSES", "Components", "Fits", "Settings", "components", "fit", "predict", "quantile", "spread"]


def fit(
    values: Floats,
    first_day: date,
    weights: Floats | None = None,
    regressors: Floats | None = None,
    settings: Settings | None = None,
    start: Fits | None = None,
) -> Fits:
    """The maximum of Prophet's posterior density for each template.

    Args:
        values: (n, T), one column a calendar day, oldest first, NaN where nothing was scored.
        first_day: the first column's; weekdays and days of the year follow from it.
        weights: (n, T) >= 0; the precision of a day's noise is multiplied by it. All 1 if None.
        regressors: (n, R, T + horizon) extra additive columns, not standardised; the horizon is what can be predicted.
        settings: Prophet's; its defaults if None.
        start: fits of nearly the same histories, template by template, to begin the search at.

    Raises:
        ValueError: an infinite value, regressor or weight, a negative weight, shapes that don't fit together, or
            weights with settings that only Prophet itself serves.
    """
    settings = settings or Settings()
    if settings.in_process:
        return prophet_fits.fit(values, first_day, weights, regressors, settings, start)
    if weights is not None:
        raise ValueError("Prophet itself knows no weights: leave them out, or use additive settings without holidays")
    return _by_prophet(
        np.asarray(values, dtype=float), prophet_fits.begin(values, first_day, None, regressors, settings)
    )


def _by_prophet(values: Floats, fits: Fits) -> Fits:
    rows = np.flatnonzero(fits.status == FITTED)
    for row, fitted in zip(rows, in_pool(fit_one, [_job(fits, row, values[row]) for row in rows]), strict=True):
        fits.models[row], fits.errors[row] = fitted.model, fitted.error
        fits.k[row], fits.m[row], fits.sigma_obs[row] = fitted.k, fitted.m, fitted.sigma_obs
        known = fitted.delta[: (fits.frame.changepoints[row] < NEVER).sum()]
        fits.delta[row, : len(known)] = known
        fits.status[row] = FAILED if fitted.error else FITTED
    return fits


def _job(fits: Fits, row: np.intp, values: Floats) -> Job:
    return Job(values, fits.first_day, fits.regressors[row], fits.settings)


def _forecasts(fits: Fits, first_day: date, days: int) -> tuple[Ints, list[Forecast]]:
    """Of the templates that Prophet itself fitted."""
    rows = np.flatnonzero(fits.models != "")
    jobs = [(fits.models[row], _job(fits, row, np.empty(0)), first_day, days) for row in rows]
    return rows, in_pool(forecast_one, jobs)


def predict(fits: Fits, first_day: date, days: int) -> Floats:
    """`yhat` (n, days) in the values' own units, of days in or after the histories; NaN where there is no fit."""
    return components(fits, first_day, days).yhat


def components(fits: Fits, first_day: date, days: int) -> Components:
    """What `predict` adds up, for plots."""
    parts = prophet_fits.components(fits, first_day, days)
    for row, forecast in zip(*_forecasts(fits, first_day, days), strict=True):
        for part, its in zip(parts, forecast[:-1], strict=True):
            part[row] = its
    return parts


def spread(fits: Fits, first_day: date, days: int) -> Floats:
    """Standard deviation (n, days) of Prophet's predictive law, in the values' own units; NaN where there is no fit."""
    found = prophet_spread.spread(fits, first_day, days)
    for row, forecast in zip(*_forecasts(fits, first_day, days), strict=True):
        found[row] = forecast.samples.std(axis=1)
    return found


def quantile(fits: Fits, first_day: date, days: int, probability: float, extra: Floats | None = None) -> Floats:
    """What is added to `yhat` so that a day stays below with this probability, (n, days); see prophet_spread.py."""
    found = prophet_spread.quantile(fits, first_day, days, probability, extra)
    for row, forecast in zip(*_forecasts(fits, first_day, days), strict=True):
        yhat = sum(forecast[:-1], start=np.zeros(days))
        found[row] = np.quantile(forecast.samples, probability, axis=1) - yhat
    return found
