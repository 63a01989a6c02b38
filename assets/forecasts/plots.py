"""Pictures of forecasts: against what came, and how often they alarmed.

Belongs here: drawing. Does not belong here: choosing whom to draw (`anomalies`).
"""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from assets.figures import grid
from assets.forecasts.anomalies import BandDay, Trouble
from assets.forecasts.backtests import Backtest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = timedelta(days=45)


def forecast_figure(troubles: Sequence[Trouble], bands: Sequence[Sequence[BandDay]], today: date) -> "Figure":
    """A panel a template: band and expectation, what came, anomalies in red, the threshold and its crossing."""
    figure, panels = grid(len(troubles), "Forecast (band: the budget's bounds) and actual; dashed: the threshold")
    for panel, trouble, days in zip(panels, troubles, bands, strict=True):
        draw_forecast(
            panel,
            [(day.date, day.yhat, day.lower, day.upper) for day in days],
            [(day.date, day.actual) for day in days if day.actual is not None],
            [(day.date, day.actual) for day in days if day.is_anomaly and day.actual is not None],
        )
        _draw_threshold(panel, trouble, days, today)
        panel.set_title(f"{trouble.tenant_id} · {trouble.template[:40]} · {trouble.measure}", fontsize=9, loc="left")
        panel.tick_params(axis="x", rotation=30)
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
        alarms: what came beyond its bound.
    """
    if bands:
        dates, expected, lower, upper = zip(*bands, strict=True)
        panel.fill_between(dates, lower, upper, color="#9ecae1", alpha=0.6, linewidth=0)
        panel.plot(dates, expected, color="#2171b5", linewidth=1.2)
    panel.plot([day for day, _ in days], [score for _, score in days], ".", color="#444444", markersize=4)
    panel.plot([day for day, _ in alarms], [score for _, score in alarms], "D", color="#cb181d", markersize=4.5)
    panel.tick_params(labelsize=7)
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.25)


def rates_figure(results: Sequence[Backtest]) -> "Figure":
    """How many templates alarmed how often in 90 days, a panel a measure, with what the budgets let expect."""
    import numpy as np
    from matplotlib.ticker import MaxNLocator
    from scipy import stats

    measures = sorted({result.measure for result in results})
    figure, panels = grid(len(measures), "Templates by their alarms in 90 days; line: as the budget lets expect")
    for panel, measure in zip(panels, measures, strict=True):
        alarms: dict[tuple[str, str], int] = {}
        expected: dict[tuple[str, str], float] = {}
        for result in results:
            if result.measure == measure:
                key = result.tenant_id, result.template
                alarms[key] = alarms.get(key, 0) + result.alarms
                expected[key] = expected.get(key, 0.0) + result.alarms_expected
        counts = np.bincount(list(alarms.values()))
        nominal = stats.poisson.pmf(np.arange(len(counts))[:, None], list(expected.values())).sum(axis=1)
        panel.bar(range(len(counts)), counts, color="#9ecae1")
        panel.plot(range(len(counts)), nominal, "o-", color="#2171b5", linewidth=1.2, markersize=4)
        panel.set_title(measure, fontsize=9, loc="left")
        panel.set_xlim(-0.5, max(len(counts), 2) - 0.5)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_xlabel("alarms", fontsize=8)
        panel.set_ylabel("templates", fontsize=8)
        panel.tick_params(labelsize=7)
    return figure


def _draw_threshold(panel: Any, trouble: Trouble, days: Sequence[BandDay], today: date) -> None:
    if trouble.threshold is None or not days:
        return
    panel.axhline(trouble.threshold, color="#cb181d", linewidth=0.8, linestyle="--")
    panel.axvline(today, color="#888888", linewidth=0.8)
    crossed = [day for day in days if day.p_crossing is not None and day.p_crossing > 0.5]  # noqa: PLR2004 - more likely than not
    if crossed:
        first = crossed[0]
        panel.plot([first.date], [trouble.threshold], "v", color="#cb181d", markersize=7)
        panel.annotate(
            f"{first.p_crossing:.0%}",
            (first.date, trouble.threshold),
            fontsize=7,
            xytext=(4, 4),
            textcoords="offset points",
        )
