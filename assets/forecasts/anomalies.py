"""The digest of anomalies: those of the last two weeks, and how sure each is among all that was judged that day.

An alarm keeps its template's budget, whatever else is judged that day; of ten thousand templates some alarm every day
by chance. The digest says which of them stand out of the whole day (Benjamini and Hochberg).

Belongs here: reading verdicts, that sum, `ml.drift_anomalies`. Does not belong here: verdicts (`judging`), drawing.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple
from uuid import UUID

import numpy as np

from assets.forecasts.panel import Floats, Measure
from assets.whole_table import replace_rows
from storage.database import Connection

LOOKS_BACK = timedelta(days=14)

# One statement, so that whoever commits verdicts meanwhile is in all of it or in none.
_JUDGED = """
select
    measure,
    date,
    string_agg(float8send(p_value), '') as p_values,
    array_agg(
        (
            tenant_id, template_id, template, measure, date, actual, yhat,
            case measure when 'drift' then yhat_upper else yhat_lower end, p_value
        )
        order by tenant_id, template_id
    ) filter (where is_anomaly) as anomalies
from ml.drift_forecasts
where date >= %(since)s and date < %(today)s and actual is not null
group by measure, date
order by measure, date
"""
_TROUBLED = """
with alarms as (
    select tenant_id, template_id, measure, count(*) as alarms
    from ml.drift_anomalies
    group by tenant_id, template_id, measure
),

ahead as (
    select
        tenant_id, template_id, measure, min(template) as template, max(p_crossing) as p_crossing,
        min(threshold) as threshold
    from ml.drift_forecasts
    where date >= %(today)s
    group by tenant_id, template_id, measure
)

select
    ahead.tenant_id,
    ahead.template_id,
    ahead.template,
    ahead.measure,
    coalesce(alarms.alarms, 0) as alarms,
    ahead.p_crossing,
    ahead.threshold
from ahead
left join alarms using (tenant_id, template_id, measure)
where alarms.alarms > 0 or ahead.p_crossing > 0.5
order by coalesce(alarms.alarms, 0) desc, ahead.p_crossing desc nulls last, ahead.tenant_id, ahead.template
limit %(limit)s
"""
_BAND = """
select date, yhat, yhat_lower, yhat_upper, actual, is_anomaly, p_crossing
from ml.drift_forecasts
where
    tenant_id = %(tenant_id)s and template_id = %(template_id)s and measure = %(measure)s and date >= %(since)s
order by date
"""
_KEY = ("tenant_id", "template_id", "measure", "date")


class Anomaly(NamedTuple):
    """A row of `ml.drift_anomalies`."""

    tenant_id: str
    template_id: UUID
    template: str
    measure: Measure
    date: date
    actual: float
    yhat: float
    bound: float
    p_value: float
    q_value: float


class Trouble(NamedTuple):
    """A template with alarms in the last two weeks, or about to cross its threshold."""

    tenant_id: str
    template_id: UUID
    template: str
    measure: Measure
    alarms: int
    p_crossing: float | None
    threshold: float | None


class BandDay(NamedTuple):
    """A day of a template as it is drawn."""

    date: date
    yhat: float
    lower: float
    upper: float
    actual: float | None
    is_anomaly: bool
    p_crossing: float | None


def write_anomalies(connection: Connection, today: date) -> tuple[list[Anomaly], int, int]:
    """Bring the digest up to date; returns it, how many rows differ from before, and how many days were judged."""
    values = {"since": today - LOOKS_BACK, "today": today}
    judged = 0
    found: list[Anomaly] = []
    for _, _, numbers, anomalies in connection.execute(_JUDGED, values, binary=True):
        p_values = np.frombuffer(numbers, ">f8").astype(np.float64)
        judged += len(p_values)
        if anomalies:
            shares = dict(zip(p_values.tolist(), q_values(p_values).tolist(), strict=True))
            found += [Anomaly._make((*row, shares[row[-1]])) for row in anomalies]
    return found, replace_rows(connection, "drift_anomalies", _KEY, Anomaly, found), judged


def q_values(p_values: Floats) -> Floats:
    """For each p-value the expected part of chance among all that are at most as high (Benjamini and Hochberg 1995)."""
    order = np.argsort(p_values, kind="stable")
    ranked = p_values[order] * len(p_values) / np.arange(1, len(p_values) + 1)
    shares = np.empty(len(p_values))
    shares[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return shares


def most_in_trouble(connection: Connection, today: date, limit: int) -> list[Trouble]:
    """The templates with most alarms, then those that most probably cross their threshold within a week."""
    return [Trouble(*row) for row in connection.execute(_TROUBLED, {"today": today, "limit": limit})]


def read_bands(connection: Connection, troubles: Sequence[Trouble], since: date) -> list[list[BandDay]]:
    """The days of each as they are drawn, in order of date."""
    return [
        [BandDay(*row) for row in connection.execute(_BAND, {**trouble._asdict(), "since": since})]
        for trouble in troubles
    ]
