"""What forecasts are made from: daily scores, known changes, bounds and budgets, read into arrays.

Belongs here: SQL that reads what others have written. Does not belong here: what forecasts have written themselves
(`stored`, `registry`), any judgement (`judging`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, LiteralString
from uuid import UUID

import numpy as np

from assets.forecasts.binary_rows import EPOCH
from assets.forecasts.budgets import DEFAULT_BUDGET_WEEKS
from assets.forecasts.history import Subject
from assets.forecasts.judging import JUDGED_DAYS
from assets.forecasts.panel import Bools, Floats, Measure, Panel
from assets.forecasts.replay import BLOCK, REPLAYED_DAYS
from storage.database import Connection

# More than a judgement of the newest days looks back, so that it doesn't depend on the date of the run.
REACH = timedelta(days=REPLAYED_DAYS + BLOCK + JUDGED_DAYS)
_DAY_BYTES = 4
# Nobody waits for the forecast of a template that has sent nothing for so long.
INACTIVE_AFTER = timedelta(days=60)

# All aggregates of a template see its months in the same order; which one that is makes no difference, since each day
# has its date.
_MONTHS = """
select
    tenant_id,
    template_id,
    min(template) as template,
    string_agg(days, '') as days,
    string_agg(drift_scores, '') as drift,
    string_agg(drift_counts, '') as drift_count,
    string_agg(reliability_scores, '') as reliability,
    string_agg(reliability_counts, '') as reliability_count
from intermediate.int_score_months
where month >= date_trunc('month', %(since)s::date)::date and month < %(today)s and """
# The same for all parts of a fleet.
_FIRST_DAY = """
select greatest(%(since)s::date, min(month)) from intermediate.int_score_months
where month >= date_trunc('month', %(since)s::date)::date and month < %(today)s
having count(*) > 0
"""
_GROUPED = " group by tenant_id, template_id order by tenant_id, template_id"
_OF_PART = """(
    %(parts)s = 1 or mod(hashtextextended(template_id::text, 0), %(parts)s) in (%(part)s, %(part)s - %(parts)s)
)"""
_OF_TEMPLATES = """(tenant_id, template_id) in (
    select * from unnest(%(tenant_ids)s::text[], %(template_ids)s::uuid[])
)"""
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
    return _read(connection, today, _OF_PART, {"part": part, "parts": parts})


def read_histories_of(connection: Connection, today: date, templates: Sequence[tuple[str, UUID]]) -> Histories:
    """As `read_histories`, of templates by tenant and identifier."""
    tenant_ids, template_ids = ([key[place] for key in templates] for place in (0, 1))
    return _read(connection, today, _OF_TEMPLATES, {"tenant_ids": tenant_ids, "template_ids": template_ids})


def _read(connection: Connection, today: date, which: LiteralString, values: Mapping[str, object]) -> Histories:
    between = {"since": today - REACH, "today": today}
    row = connection.execute(_FIRST_DAY, between).fetchone()
    first_day = row[0] if row else today
    rows = connection.execute(_MONTHS + which + _GROUPED, {**values, **between}, binary=True).fetchall()
    days = np.frombuffer(b"".join(row[3] for row in rows), ">i4").astype(np.int64) + EPOCH.toordinal()
    place = np.repeat(np.arange(len(rows)), [len(row[3]) // _DAY_BYTES for row in rows])
    kept = (days >= first_day.toordinal()) & (days < today.toordinal())
    cells = place[kept], days[kept] - first_day.toordinal()
    shape = len(rows), (today - first_day).days

    def spread(column: int, gap: float) -> Floats:
        told = np.frombuffer(b"".join(row[column] for row in rows), ">f8")
        values = np.full(shape, gap)
        values[cells] = told[kept]
        return values

    return Histories(
        tuple(Subject(*row[:3]) for row in rows),
        first_day,
        {"drift": np.clip(spread(4, np.nan), 0.0, 1.0), "reliability": np.clip(spread(6, np.nan), 0.0, 1.0)},
        {"drift": spread(5, 0.0), "reliability": spread(7, 0.0)},
    )


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
