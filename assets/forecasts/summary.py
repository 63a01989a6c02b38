"""What a run of forecasts found, in the few numbers that people read first.

Belongs here: ranking and counting of judgements, pure. Does not belong here: Dagster's metadata types (assets.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from assets.forecasts.engine import Forecast, Judgement


@dataclass(frozen=True)
class Trouble:
    """How a template's judged days compare with what was expected.

    `worst` is the largest excess over the expected drift in half-widths of the band: above 1 is an anomaly.
    """

    judgement: Judgement
    anomalies: int
    worst: float
    worst_day: Forecast
    newest: Forecast


def most_in_trouble(judgements: Iterable[Judgement]) -> list[Trouble]:
    """Templates that had a day judged, the one with most anomalies, then largest excess, first."""
    found = [trouble for judgement in judgements if (trouble := _trouble(judgement)) is not None]
    return sorted(found, key=lambda trouble: (-trouble.anomalies, -trouble.worst, trouble.judgement.subject))


def judged(judgement: Judgement) -> list[Forecast]:
    """The forecasts that came with a verdict, in order of date."""
    return [forecast for forecast in judgement.forecasts if forecast.actual is not None]


def counts(judgements: Iterable[Judgement]) -> dict[str, int]:
    """How many templates, days, anomalies and fits, and by which method days were judged."""
    listed = list(judgements)
    days = [forecast for judgement in listed for forecast in judged(judgement)]
    return {
        "templates_judged": sum(1 for judgement in listed if judged(judgement)),
        "days_judged": len(days),
        "days_judged_by_prophet": sum(1 for day in days if day.model.method == "prophet"),
        "days_judged_by_zscore": sum(1 for day in days if day.model.method == "zscore"),
        "days_forecast_ahead": sum(len(judgement.forecasts) for judgement in listed) - len(days),
        "anomalies": sum(1 for day in days if day.is_anomaly),
        "fits": sum(judgement.fits for judgement in listed),
        "prophet_fallbacks": sum(len(judgement.failures) for judgement in listed),
    }


def date_range(judgements: Iterable[Judgement]) -> tuple[date, date] | None:
    """First and last date that has a forecast."""
    dates = [forecast.date for judgement in judgements for forecast in judgement.forecasts]
    return (min(dates), max(dates)) if dates else None


def _trouble(judgement: Judgement) -> Trouble | None:
    days = judged(judgement)
    if not days:
        return None
    worst = max(days, key=_excess)
    return Trouble(judgement, sum(day.is_anomaly for day in days), _excess(worst), worst, days[-1])


def _excess(forecast: Forecast) -> float:
    band = forecast.band
    if forecast.actual is None or band.upper <= band.yhat:
        return 0.0
    return (forecast.actual - band.yhat) / (band.upper - band.yhat)
