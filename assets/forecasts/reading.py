"""What forecasts are made from: daily scores, known changes, bounds and budgets, read into arrays.

Belongs here: SQL that reads what others have written. Does not belong here: what forecasts have written themselves
(`stored`, `registry`), any judgement (`judging`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import numpy as np

from assets.forecasts.budgets import DEFAULT_BUDGET_WEEKS
from assets.forecasts.history import Subject
from assets.forecasts.judging import JUDGED_DAYS
from assets.forecasts.panel import Bools, Floats, Measure, Panel
from assets.forecasts.replay import BLOCK, REPLAYED_DAYS
from storage.database import Connection

# More than a judgement of the newest days looks back, so that it doesn't depend on the date of the run.
REACH = timedelta(days=REPLAYED_DAYS + BLOCK + JUDGED_DAYS)
# Nobody waits for the forecast of a template that has sent nothing for so long.
INACTIVE_AFTER = timedelta(days=60)

# A row a template, its days as numbers of 4 and 8 bytes: as rows and objects they would take ten times the time. All
# aggregates of a group see its rows in the same order; which one that is makes no difference, since each has its day.
_DAYS = """
select
    tenant_id,
    template_id,
    min(template) as template,
    string_agg(int4send(date - %(first_day)s), '') as days,
    string_agg(float8send(coalesce(drift_score, 'NaN')), '') as drift,
    string_agg(float8send(drift_count), '') as drift_count,
    string_agg(float8send(coalesce(reliability_score, 'NaN')), '') as reliability,
    string_agg(float8send(reliability_count), '') as reliability_count
from marts.drift_history
where
    date >= %(first_day)s and date < %(today)s
    and (%(parts)s = 1 or mod(hashtextextended(template_id::text, 0), %(parts)s) in (%(part)s, %(part)s - %(parts)s))
group by tenant_id, template_id
order by tenant_id, template_id
"""
_FIRST_DAY = "select min(date) from marts.drift_history where date >= %(since)s"
# An extractor that a template's first day has already is no change.
_NEW_EXTRACTORS = """
select tenant_id, template_id, first_date
from (
    select tenant_id, template_id, first_date, min(first_date) over (partition by tenant_id, template_id) as begun
    from intermediate.int_extractor_totals
) as extractors
where first_date > begun and first_date >= %(first_day)s
"""
_REBASELINES = """
select tenant_id, template, (from_at at time zone 'UTC')::date as date
from alerting.rebaselines
where event_type = any(%(event_types)s) and metric = any(%(metrics)s) and from_at >= %(first_day)s
"""
_REBASELINED: dict[Measure, tuple[list[str], list[str]]] = {
    "drift": (
        ["drift_high", "drift_anomaly", "drift_predicted"],
        ["drift_score", "drift_crossing_probability"],
    ),
    "reliability": (
        ["reliability_low", "drift_anomaly", "drift_predicted"],
        ["reliability_score", "reliability_crossing_probability"],
    ),
}
# Asking for a template's rules costs a tenth of a millisecond: only for those that may have one of their own.
_THRESHOLDS = """
select tenants.tenant_id, null as template, rule.value
from access.tenants
cross join lateral alerting.rules_for(tenants.tenant_id, '') as rule
where rule.event_type = %(event_type)s
union all
select own.tenant_id, own.template, rule.value
from (
    select distinct tenants.tenant_id, thresholds.template
    from alerting.thresholds
    inner join access.tenants on tenants.tenant_id = coalesce(thresholds.tenant_id, tenants.tenant_id)
    where thresholds.event_type = %(event_type)s and thresholds.template is not null
) as own
cross join lateral alerting.rules_for(own.tenant_id, own.template) as rule
where rule.event_type = %(event_type)s
"""
_BUDGETS = "select tenant_id, budget_weeks from ml.forecast_settings"


@dataclass(frozen=True)
class Histories:
    """The daily scores of both measures; templates in the order of tenant and identifier, days as in a `Panel`."""

    subjects: tuple[Subject, ...]
    first_day: date
    values: dict[Measure, Floats]
    counts: dict[Measure, Floats]

    @property
    def days(self) -> int:
        """How many calendar days there are."""
        return int(self.values["drift"].shape[1])

    def panel(self, measure: Measure, events: Bools, rows: Bools) -> Panel:
        """The chosen templates of a measure, high being bad.

        Args:
            measure: which of the two.
            events: of all templates.
            rows: (n) which templates.
        """
        values = self.values[measure][rows]
        return Panel(
            tuple(subject for subject, wanted in zip(self.subjects, rows, strict=True) if wanted),
            self.first_day,
            1.0 - values if measure == "reliability" else values,
            self.counts[measure][rows],
            events[rows],
        )


def read_histories(connection: Connection, today: date, part: int = 0, parts: int = 1) -> Histories:
    """The complete days of every template, as far back as REACH before today, or as there are any.

    Args:
        connection: any.
        today: the current UTC date.
        part: from 0; only templates of this part.
        parts: into how many the fleet is cut.
    """
    row = connection.execute(_FIRST_DAY, {"since": today - REACH}).fetchone()
    first_day = min((row and row[0]) or today, today)
    rows = connection.execute(
        _DAYS, {"first_day": first_day, "today": today, "part": part, "parts": parts}, binary=True
    ).fetchall()
    shape = len(rows), (today - first_day).days
    names: tuple[Measure, ...] = ("drift", "reliability")
    values = {name: np.full(shape, np.nan) for name in names}
    counts = {name: np.zeros(shape) for name in names}
    for place, (_, _, _, days, *measured) in enumerate(rows):
        at = np.frombuffer(days, ">i4")
        for name, scores, evaluations in zip(names, measured[::2], measured[1::2], strict=True):
            values[name][place, at] = np.clip(np.frombuffer(scores, ">f8"), 0.0, 1.0)
            counts[name][place, at] = np.frombuffer(evaluations, ">f8")
    return Histories(tuple(Subject(*row[:3]) for row in rows), first_day, values, counts)


def read_events(connection: Connection, histories: Histories, measure: Measure) -> Bools:
    """On which days something known changed: (n, T)."""
    event_types, metrics = _REBASELINED[measure]
    values = {"first_day": histories.first_day, "event_types": event_types, "metrics": metrics}
    found = [*connection.execute(_NEW_EXTRACTORS, values), *connection.execute(_REBASELINES, values)]
    places: dict[tuple[str, UUID | str], int] = {}
    for place, (tenant_id, template_id, template) in enumerate(histories.subjects):
        places |= {(tenant_id, template_id): place, (tenant_id, template): place}
    events = np.zeros((len(histories.subjects), histories.days), dtype=np.bool_)
    for tenant_id, which, day in found:
        column = (day - histories.first_day).days
        if (at := places.get((tenant_id, which))) is not None and column < histories.days:
            events[at, column] = True
    return events


def read_thresholds(connection: Connection, subjects: Sequence[Subject], measure: Measure) -> Floats:
    """Each template's bound of `drift_high` or `reliability_low`: (n), in units of the score."""
    event_type = "drift_high" if measure == "drift" else "reliability_low"
    bounds = _by_scope(connection.execute(_THRESHOLDS, {"event_type": event_type}))
    return np.array(
        [bounds.get((subject.tenant_id, subject.template), bounds[subject.tenant_id, None]) for subject in subjects],
        dtype=np.float64,
    )


def read_budgets(connection: Connection, subjects: Sequence[Subject]) -> Floats:
    """Each template's budget: (n), one false alarm in so many weeks."""
    budgets: dict[str, float] = dict(connection.execute(_BUDGETS).fetchall())
    return np.array([budgets.get(subject.tenant_id, DEFAULT_BUDGET_WEEKS) for subject in subjects], dtype=np.float64)


def _by_scope(rows: Iterable[tuple[Any, ...]]) -> dict[tuple[str, str | None], float]:
    return {(tenant_id, template): value for tenant_id, template, value in rows}
