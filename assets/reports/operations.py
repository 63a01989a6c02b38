"""The sections on what needs a person: alerts, the quality of the data, reviews.

Belongs here: sentences and tables on these. Does not belong here: drift and extractors (compose.py).
"""

from collections.abc import Sequence

from assets.reports.document import Column, Section, Table
from assets.reports.numbers import SHOWN_QUALITY_DAYS, WINDOW_DAYS, Alert, QualityDay, Report, Review
from assets.reports.words import ABSENT, counted, extractor, moment, named, percent, score

WINDOW = f"the last {WINDOW_DAYS} days"


def alert_section(report: Report) -> Section:
    """Alerts that fire, then those lately resolved."""
    title = "Alerts"
    if not report.alerts:
        return Section(title, "No alert is firing and none was raised lately.")
    firing = report.headline.firing_alert_count
    lead = f"{counted(firing, 'alert')} firing." if firing else "No alert is firing."
    more = report.recent_alert_count - len(report.alerts)
    columns = [
        Column("State", 1.2, "word"),
        Column("Event", 1.4, "word"),
        Column("Template", 2.2),
        Column("Extractor", 2.0),
        Column("Value", 0.8, "number"),
        Column("Bound", 0.8, "number"),
        Column("Breaches", 1.0, "number"),
        Column("Since (UTC)", 1.7, "word"),
        Column("Resolved (UTC)", 1.7, "word"),
    ]
    table = Table("Alerts, firing first", columns, [_alert_row(alert) for alert in report.alerts])
    note = f"{counted(more, 'more alert')} firing or lately resolved." if more else ""
    return Section(title, lead, tables=[table], note=note)


def _alert_row(alert: Alert) -> list[str]:
    acknowledged = alert.status == "firing" and alert.acked_at is not None
    return [
        "firing, seen" if acknowledged else alert.status,
        alert.event_type,
        named(alert.template) or ABSENT,
        extractor(alert.extractor_vendor, alert.extractor_model),
        f"{alert.value:.3g}",
        f"{alert.threshold:.3g}",
        f"{alert.breach_count:,}",
        moment(alert.started_at),
        moment(alert.resolved_at),
    ]


def quality_section(report: Report) -> Section:
    """How much of the data says something, and what was refused."""
    title = "Data quality"
    days = report.quality
    total = sum(day.evaluation_count for day in days)
    if not days:
        return Section(title, f"Nothing arrived in {WINDOW}.")
    refused, repeated, conflicting, late = (
        sum(getattr(day, name) for day in days)
        for name in ("rejected_count", "duplicate_count", "conflict_count", "late_count")
    )
    lead = (
        f"In {WINDOW} of evaluations and since: {_covered(days, total)}"
        f"{counted(late, 'evaluation')} came late, {counted(refused, 'record')} "
        f"refused, {counted(repeated, 'duplicate')}, {counted(conflicting, 'conflict')}."
    )
    columns = [
        Column("Day", 1.3, "word"),
        *(
            Column(header, kind="number")
            for header in ("Evaluations", "With drift", "With reliability", "With feedback", "Undecided", "Late")
        ),
        *(Column(header, kind="number") for header in ("Refused", "Duplicates", "Conflicts")),
    ]
    shown = days[:SHOWN_QUALITY_DAYS]
    caption = f"Newest {counted(len(shown), 'day')}"
    return Section(title, lead, tables=[Table(caption, columns, [_quality_row(day) for day in shown])])


def _covered(days: Sequence[QualityDay], total: int) -> str:
    if not total:
        return ""
    drift, reliability, feedback = (
        sum((getattr(day, name) or 0.0) * day.evaluation_count for day in days) / total
        for name in ("drift_coverage", "reliability_coverage", "feedback_coverage")
    )
    return (
        f"{percent(drift)} of {counted(total, 'evaluation')} carry a drift score, {percent(reliability)} a reliability "
        f"score, {percent(feedback)} got feedback; "
    )


def _quality_row(day: QualityDay) -> list[str]:
    return [
        str(day.date),
        f"{day.evaluation_count:,}",
        percent(day.drift_coverage),
        percent(day.reliability_coverage),
        percent(day.feedback_coverage),
        f"{day.undecided_count:,}",
        f"{day.late_count:,}",
        f"{day.rejected_count:,}",
        f"{day.duplicate_count:,}",
        f"{day.conflict_count:,}",
    ]


def review_section(report: Report) -> Section:
    """Evaluations that wait for a person, the oldest first."""
    title = "Reviews waiting"
    if not report.reviews:
        return Section(title, "No evaluation waits for a review.")
    columns = [
        Column("Since (UTC)", 1.0, "word"),
        Column("Template", 1.2),
        Column("Extractor", 1.0),
        Column("Drift", 0.45, "number"),
        Column("Reliability", 0.65, "number"),
        Column("Label", 0.6),
        Column("Evaluation", 2.2, "word"),
    ]
    more = report.review_count - len(report.reviews)
    return Section(
        title,
        f"{counted(report.review_count, 'evaluation')} waiting, the oldest since {moment(report.reviews[0].created_at)}"
        " UTC.",
        tables=[Table("The oldest", columns, [_review_row(review) for review in report.reviews])],
        note=f"{counted(more, 'more evaluation')} waiting." if more else "",
    )


def _review_row(review: Review) -> list[str]:
    return [
        moment(review.created_at),
        named(review.template),
        extractor(review.extractor_vendor, review.extractor_model),
        score(review.drift_score),
        score(review.reliability_score),
        named(review.label or "", 30) or ABSENT,
        str(review.evaluation_id),
    ]
