"""Prophet's maximum a posteriori fits and forecasts for many templates at once: the face of the prophet_* modules.

The same model as `prophet.Prophet` (growth linear or flat, additive seasonality), without its loop, files and
processes: preprocessing in prophet_design.py, the maximum in prophet_solver.py, bounds in prophet_spread.py.

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
| the same day twice | can't occur: one column a day |
"""

from datetime import date

from assets.forecasts import prophet_fits, prophet_spread
from assets.forecasts.prophet_design import Floats, Settings
from assets.forecasts.prophet_fits import STATUSES, Components, Fits

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
        ValueError: an infinite value, regressor or weight, a negative weight, or shapes that don't fit together.
    """
    return prophet_fits.fit(values, first_day, weights, regressors, settings or Settings(), start)


def predict(fits: Fits, first_day: date, days: int) -> Floats:
    """`yhat` (n, days) in the values' own units, of days in or after the histories; NaN where there is no fit."""
    return components(fits, first_day, days).yhat


def components(fits: Fits, first_day: date, days: int) -> Components:
    """What `predict` adds up, for plots."""
    return prophet_fits.components(fits, first_day, days)


def spread(fits: Fits, first_day: date, days: int) -> Floats:
    """Standard deviation (n, days) of Prophet's predictive law, in the values' own units; NaN where there is no fit."""
    return prophet_spread.spread(fits, first_day, days)


def quantile(fits: Fits, first_day: date, days: int, probability: float, extra: Floats | None = None) -> Floats:
    """What is added to `yhat` so that a day stays below with this probability, (n, days); see prophet_spread.py."""
    return prophet_spread.quantile(fits, first_day, days, probability, extra)
