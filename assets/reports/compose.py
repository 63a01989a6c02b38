"""The report in words: numbers to sections.

Belongs here: headings, sentences, what is said where there is nothing to show. Does not belong here: markup, layout
(html_page.py, pdf_pages.py).
"""

from datetime import timedelta
from functools import partial

from assets.reports.document import Column, Document, Panel, Section, Table, Tile
from assets.reports.numbers import SHOWN_AHEAD, SHOWN_HISTORY, WINDOW_DAYS, Choice, Curve, Report, Standing
from assets.reports.operations import alert_section, quality_section, review_section
from assets.reports.plots import DECISIONS, draw_curve, draw_intervals, draw_volumes
from assets.reports.words import change, counted, extractor, named, percent, score

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WINDOW = f"the last {WINDOW_DAYS} days"
STANDING_COLUMNS = [
    Column("No.", 0.45, "number"),
    Column("Template", 3.2),
    Column("Evaluations", 1.25, "number"),
    Column("Days above", 1.0, "number"),
    Column("Newest day", 1.2, "word"),
    Column("Drift then", 0.9, "number"),
    Column("Mean of 7 days", 0.9, "number"),
    Column("Change in 7 days", 0.9, "number"),
    Column("95th percentile", 1.0, "number"),
    Column("Reliability", 1.1, "number"),
]
CHOICE_COLUMNS = [
    Column("", 0.6, "word"),
    Column("Extractor", 1.8),
    Column("Success rate", 2.6, "number"),
    Column("P(best)", 0.95, "number"),
    Column("Feedback", 1.25, "number"),
]


def compose(report: Report) -> Document:
    """Put a tenant's numbers in words."""
    headline = report.headline
    span = (
        f"evaluations from {headline.first_date} to {headline.last_date}"
        if headline.last_date
        else "no evaluations yet; marts built on that day"
    )
    return Document(
        tenant=named(headline.name),
        subtitle=f"Tenant {report.tenant_id} · as of {headline.as_of} (UTC) · {span}",
        tiles=_tiles(report),
        sections=[
            _volume_section(report),
            _drift_section(report),
            _extractor_section(report),
            alert_section(report),
            quality_section(report),
            review_section(report),
        ],
    )


def _tiles(report: Report) -> list[Tile]:
    headline = report.headline
    newest = sum(volume.evaluation_count for volume in report.volumes if volume.date == headline.as_of)
    return [
        Tile("Evaluations", f"{headline.total_evaluations:,}", f"{newest:,} on {headline.as_of}"),
        Tile("Templates", f"{headline.template_count:,}", f"{report.standing_count:,} active in {WINDOW}"),
        Tile("Mean drift score", score(headline.avg_drift_score), "of all; low is good"),
        Tile("Mean reliability", score(headline.avg_reliability_score), "of all; high is good"),
        Tile("Alerts firing", f"{headline.firing_alert_count:,}", f"{headline.alert_count:,} ever raised"),
        Tile("Reviews waiting", f"{report.review_count:,}", "for a person's verdict"),
    ]


def _volume_section(report: Report) -> Section:
    title = "Evaluations a day"
    totals = {
        decision: sum(volume.evaluation_count for volume in report.volumes if volume.decision == decision)
        for decision in DECISIONS
    }
    total = sum(totals.values())
    if not total:
        return Section(title, f"No evaluations in {WINDOW}.")
    until = report.headline.as_of
    since = until - timedelta(days=WINDOW_DAYS - 1)
    shares = ", ".join(f"{percent(count / total)} {decision}" for decision, count in totals.items())
    panel = Panel(
        title="Evaluations a day, by decision",
        alt=f"Bars: evaluations a day from {since} to {until}, {total:,} in all, of which {shares}.",
        draw=partial(draw_volumes, volumes=report.volumes, since=since, until=until),
        is_wide=True,
    )
    days = len({volume.date for volume in report.volumes})
    return Section(title, f"{counted(total, 'evaluation')} on {days} of {WINDOW}: {shares}.", [panel])


def _drift_section(report: Report) -> Section:
    title = "Drift: the worst templates"
    if not report.standings:
        return Section(title, f"No template was active in {WINDOW}.")
    lead = (
        f"Most days above the upper bound of their forecast in {WINDOW} first, then the largest change over a week. "
        "Dots are days, the line is the forecast with its band, as wide as the budget of false alarms wants it, red "
        "diamonds are days above it."
    )
    if not any(curve.forecasts for curve in report.curves):
        lead += " There are no forecasts of these templates yet."
    rows = [_standing_row(number, standing) for number, standing in enumerate(report.standings, start=1)]
    return Section(
        title,
        lead,
        [_curve_panel(report, curve) for curve in report.curves],
        [Table("Worst templates", STANDING_COLUMNS, rows)],
        _drift_note(report),
    )


def _standing_row(number: int, standing: Standing) -> list[str]:
    return [
        str(number),
        named(standing.template),
        f"{standing.evaluation_count:,}",
        f"{standing.breach_count:,}",
        str(standing.newest),
        score(standing.drift_score),
        score(standing.drift_avg_7d),
        change(standing.drift_change_7d),
        score(standing.drift_p95_30d),
        score(standing.reliability_avg_7d),
    ]


def _curve_panel(report: Report, curve: Curve) -> Panel:
    as_of = report.headline.as_of
    number = report.standings.index(curve.standing) + 1
    scores = [day.drift_score for day in curve.days]
    above = sum(day.is_anomaly and day.actual is not None for day in curve.forecasts)
    ahead = sum(as_of < day.date <= as_of + SHOWN_AHEAD for day in curve.forecasts)
    alt = (
        f"Drift a day of template no. {number}, {as_of - SHOWN_HISTORY} to {as_of}: {counted(len(scores), 'day')} "
        f"between {score(min(scores))} and {score(max(scores))}, newest {score(scores[-1])}; "
        f"{counted(above, 'day')} above the band of the forecast, {counted(ahead, 'day')} forecast ahead."
    )
    draw = partial(draw_curve, curve=curve, as_of=as_of)
    return Panel(named(curve.standing.template), alt, draw, number=number)


def _drift_note(report: Report) -> str:
    notes = []
    more = report.standing_count - len(report.standings)
    if more:
        notes.append(f"{counted(more, 'more template')} active in {WINDOW}, none of them worse than these.")
    silent = report.headline.template_count - report.standing_count
    if silent > 0:
        notes.append(f"{counted(silent, 'template')} without evaluations in {WINDOW}.")
    return " ".join(notes)


def _extractor_section(report: Report) -> Section:
    title = "Extractors: what their success rates probably are"
    if not report.choices:
        return Section(title, "No feedback yet, so nothing is known of any extractor's success rate.")
    lead = (
        "Templates where the choice matters most first. Lines are 95 % credible intervals, dots are means; the "
        "recommended extractor is filled in blue. P(best) is the probability of being the template's best."
    )
    more = report.choice_count - len(report.choices)
    note = f"{counted(more, 'more template')} with feedback." if more else ""
    return Section(title, lead, [_choice_panel(choice) for choice in report.choices], note=note)


def _choice_panel(choice: Choice) -> Panel:
    letters = LETTERS[: len(choice.arms)]
    rows = [
        [
            letter + (" ★" if arm.is_recommended else ""),
            extractor(arm.extractor_vendor, arm.extractor_model),
            f"{score(arm.mean)} ({score(arm.lower)} - {score(arm.upper)})",
            percent(arm.p_best),
            f"{arm.feedback_count:,}",
        ]
        for letter, arm in zip(letters, choice.arms, strict=True)
    ]
    more = choice.extractor_count - len(choice.arms)
    caption = "★ recommended" + (f"; {counted(more, 'more extractor')} less probably the best" if more else "")
    return Panel(
        named(choice.template),
        "Intervals of success rates: " + "; ".join(f"{row[0]} {row[2]}" for row in rows) + ".",
        partial(draw_intervals, arms=choice.arms, letters=list(letters)),
        Table(caption, CHOICE_COLUMNS, rows),
    )
