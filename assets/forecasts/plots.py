"""One picture of forecasts against what came, for the templates most in trouble.

Belongs here: drawing. Does not belong here: choosing whom to draw (summary.py).
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from assets.forecasts.engine import Judgement
from assets.forecasts.history import History, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 2
SHOWN = timedelta(days=45)


def forecast_figure(judgements: Sequence[Judgement], histories: Mapping[Subject, History]) -> "Figure":
    """A panel a template: band and expectation, the days that came, anomalies in red."""
    from matplotlib.figure import Figure

    rows = max(1, -(-len(judgements) // COLUMNS))
    figure = Figure(figsize=(11, 2.6 * rows + 0.4), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for judgement, panel in zip(judgements, panels, strict=False):
        _panel(panel, judgement, histories[judgement.subject])
    for panel in panels[len(judgements) :]:
        panel.set_axis_off()
    figure.suptitle("Drift score a day: forecast (band: 2 sigma) and actual", fontsize=11)
    return figure


def _panel(panel: Any, judgement: Judgement, history: History) -> None:
    forecasts = judgement.forecasts
    dates = [forecast.date for forecast in forecasts]
    start = dates[0] - SHOWN
    lower, upper = ([getattr(forecast.band, side) for forecast in forecasts] for side in ("lower", "upper"))
    panel.fill_between(dates, lower, upper, color="#9ecae1", alpha=0.6, linewidth=0)
    panel.plot(dates, [forecast.band.yhat for forecast in forecasts], color="#2171b5", linewidth=1.2)
    known = [day for day in history.days if start <= day.date <= dates[-1]]
    panel.plot([day.date for day in known], [day.drift for day in known], ".", color="#444444", markersize=4)
    alarms = [forecast for forecast in forecasts if forecast.is_anomaly]
    panel.plot([alarm.date for alarm in alarms], [alarm.actual for alarm in alarms], "o", color="#cb181d", markersize=5)
    subject = judgement.subject
    panel.set_title(f"{subject.tenant_id} · {subject.template[:50]}", fontsize=9, loc="left")
    panel.tick_params(labelsize=7)
    panel.tick_params(axis="x", rotation=30)
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.25)
