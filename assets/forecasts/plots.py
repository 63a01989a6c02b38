"""Pictures of forecasts against what came.

Belongs here: drawing. Does not belong here: choosing whom to draw (summary.py).
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from assets.figures import grid
from assets.forecasts.engine import Judgement
from assets.forecasts.history import History, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = timedelta(days=45)


def forecast_figure(judgements: Sequence[Judgement], histories: Mapping[Subject, History]) -> "Figure":
    """A panel a template: band and expectation, the days that came, anomalies in red."""
    figure, panels = grid(len(judgements), "Drift score a day: forecast (band: 2 sigma) and actual")
    for judgement, panel in zip(judgements, panels, strict=True):
        _panel(panel, judgement, histories[judgement.subject])
    return figure


def draw_forecast(
    panel: Any,
    bands: Sequence[tuple[date, float, float, float]],
    days: Sequence[tuple[date, float]],
    alarms: Sequence[tuple[date, float]],
) -> None:
    """Draw one template's forecast into a panel.

    Args:
        panel: matplotlib's axes.
        bands: date, expectation, lower and upper bound, in order of date.
        days: what came.
        alarms: what came above the upper bound.
    """
    if bands:
        dates, expected, lower, upper = zip(*bands, strict=True)
        panel.fill_between(dates, lower, upper, color="#9ecae1", alpha=0.6, linewidth=0)
        panel.plot(dates, expected, color="#2171b5", linewidth=1.2)
    panel.plot([day for day, _ in days], [drift for _, drift in days], ".", color="#444444", markersize=4)
    panel.plot([day for day, _ in alarms], [drift for _, drift in alarms], "D", color="#cb181d", markersize=4.5)
    panel.tick_params(labelsize=7)
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.25)


def _panel(panel: Any, judgement: Judgement, history: History) -> None:
    forecasts = judgement.forecasts
    start, end = forecasts[0].date - SHOWN, forecasts[-1].date
    draw_forecast(
        panel,
        [(forecast.date, *forecast.band) for forecast in forecasts],
        [(day.date, day.drift) for day in history.days if start <= day.date <= end],
        [(forecast.date, forecast.actual or 0.0) for forecast in forecasts if forecast.is_anomaly],
    )
    subject = judgement.subject
    panel.set_title(f"{subject.tenant_id} · {subject.template[:50]}", fontsize=9, loc="left")
    panel.tick_params(axis="x", rotation=30)
