"""The panels of a report, each drawn into axes that a page hands in.

Belongs here: drawing. Does not belong here: names that a tenant chose (they stand beside the panel as text), where a
panel stands (html_page.py, pdf_pages.py).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

from assets.forecasts.plots import draw_forecast
from assets.reports.numbers import SHOWN_HISTORY, Curve, ExtractorPosterior, Volume

DECISIONS = {"accept": "#5b9bd5", "review": "#f0ad3c", "reject": "#b5332e", "undecided": "#b8bec6"}
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 7.5,
    "text.parse_math": False,
    "timezone": "UTC",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a929c",
    "axes.labelcolor": "#333a44",
    "xtick.color": "#333a44",
    "ytick.color": "#333a44",
    "svg.fonttype": "none",
    "svg.hashsalt": "tidemark",
}
_DAY_TICKS = 7


@contextmanager
def plain_style() -> Iterator[None]:
    """Draw as the report does, whatever this machine's matplotlib is set to: both what is made and what is saved."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def draw_volumes(panel: Any, *, volumes: Sequence[Volume], since: date, until: date) -> None:
    """Evaluations a day, stacked by decision."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    days = [since + timedelta(days=number) for number in range((until - since).days + 1)]
    counts = {(volume.date, volume.decision): volume.evaluation_count for volume in volumes}
    stacked = [0] * len(days)
    for decision, colour in DECISIONS.items():
        heights = [counts.get((day, decision), 0) for day in days]
        if any(heights):
            panel.bar(days, heights, bottom=stacked, width=0.8, color=colour, label=decision)
        stacked = [below + height for below, height in zip(stacked, heights, strict=True)]
    panel.legend(ncols=len(DECISIONS), frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    panel.grid(axis="y", alpha=0.25)
    panel.set_axisbelow(True)
    _days(panel, since, until)


def draw_curve(panel: Any, *, curve: Curve, as_of: date) -> None:
    """One template's drift a day over its forecast's band, breaches marked, and the days ahead."""
    from matplotlib.dates import date2num
    from matplotlib.ticker import MaxNLocator

    draw_forecast(
        panel,
        [(day.date, day.yhat, day.lower, day.upper) for day in curve.forecasts],
        curve.days,
        [(day.date, day.actual) for day in curve.forecasts if day.is_anomaly and day.actual is not None],
    )
    until = max((day.date for day in curve.forecasts), default=as_of)
    if until > as_of:
        panel.axvline(date2num(as_of) + 0.5, color="#8a929c", linewidth=0.8, linestyle=":")
    panel.yaxis.set_major_locator(MaxNLocator(5))
    panel.set_ylabel("drift score")
    _days(panel, as_of - SHOWN_HISTORY, max(until, as_of))


def draw_intervals(panel: Any, *, arms: Sequence[ExtractorPosterior], letters: Sequence[str]) -> None:
    """The 95 % credible interval of each extractor's success rate, its mean as a dot, the recommended one filled."""
    heights = range(len(arms), 0, -1)
    for arm, height in zip(arms, heights, strict=True):
        colour = "#2171b5" if arm.is_recommended else "#7b8794"
        filling = colour if arm.is_recommended else "white"
        panel.hlines(height, arm.lower, arm.upper, color=colour, linewidth=2.2)
        panel.plot([arm.mean], [height], "o", color=colour, markerfacecolor=filling, markersize=6)
    panel.set_yticks(list(heights), letters)
    panel.set_ylim(0.4, len(arms) + 0.6)
    panel.set_xlim(max(0.0, min(arm.lower for arm in arms) - 0.05), min(1.0, max(arm.upper for arm in arms) + 0.05))
    panel.set_xlabel("success rate")
    panel.grid(axis="x", alpha=0.25)


def _days(panel: Any, since: date, until: date) -> None:
    """A tick at most every seventh of the range, in English whatever the locale; the newest day has one."""
    from matplotlib.dates import date2num

    step = max(1, -(-(until - since).days // _DAY_TICKS))
    ticks = [until - timedelta(days=step * number) for number in range(_DAY_TICKS, -1, -1)]
    ticks = [tick for tick in ticks if tick >= since]
    panel.set_xticks(ticks, [f"{tick.day} {MONTHS[tick.month - 1]}" for tick in ticks])
    panel.set_xlim(date2num(since) - 0.6, date2num(until) + 0.6)


def _short(value: float) -> str:
    """12,000,000 as 12M: an axis has no room for more."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= 10 * size:
            return f"{value / size:g}{letter}"
    return f"{value:,.0f}"
