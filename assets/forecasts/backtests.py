"""How forecasts of past days did: stored verdicts against what came, and every method tried on the last 90 days.

Belongs here: `ml.forecast_backtests`, and what follows from it for champions. Does not belong here: trying a method,
choosing one (`champions`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple, get_args
from uuid import UUID

import numpy as np
import numpy.typing as npt
from scipy import stats

from assets.forecasts.binary_rows import copy_columns
from assets.forecasts.champions import Backtest as Tested
from assets.forecasts.champions import backtest, champions
from assets.forecasts.history import Subject
from assets.forecasts.methods import METHODS
from assets.forecasts.panel import Measure
from assets.forecasts.reading import Histories, read_events, read_histories_of
from assets.whole_table import replace_rows
from storage.database import Connection

LOOKS_BACK = timedelta(days=90)
# So improbable is it that the realised rate leaves its band by chance.
CHANCE = 0.001
# Of two standard deviations either way.
NOMINAL_COVERAGE = 0.9545
# Each template has its turn in so many days. A fleet up to so large is tried whole in one night.
TURN = 28
TRIED_AT_LEAST = 400
MEASURES: tuple[Measure, ...] = get_args(Measure)

# From the first statement on: whoever asks for it with rows written already waits for one who waits for these rows.
_ONE_WRITER = "lock table ml.forecast_backtests in share row exclusive mode"

# Tenant and template: the method that serves, and whether it is pinned.
_Due = dict[tuple[Any, ...], tuple[Any, ...]]

# What was tried on past days stays until it is tried again.
_RESULTS = """
with days as (
    select
        judged.*,
        1 / (7 * judged.budget_weeks) as rate,
        -- What lasts for days is one alarm.
        judged.is_anomaly and not exists (
            select from ml.drift_forecasts as before
            where
                before.tenant_id = judged.tenant_id
                and before.template_id = judged.template_id
                and before.measure = judged.measure
                and before.date = judged.date - 1
                and before.is_anomaly
        ) as begins
    from ml.drift_forecasts as judged
    where judged.date >= %(since)s and judged.date < %(today)s and judged.actual is not null
),

realised as (
    select
        tenant_id,
        template_id,
        min(template) as template,
        measure,
        method,
        count(*)::integer as days_judged,
        count(*) filter (where begins)::integer as alarms,
        sum(rate) as alarms_expected
    from days
    group by tenant_id, template_id, measure, method
),

serving as (
    select champion.tenant_id, champion.template_id, champion.measure, model.method
    from ml.forecast_champions as champion
    inner join ml.forecast_models as model using (model_id)
)

select
    tenant_id,
    template_id,
    coalesce(realised.template, tried.template) as template,
    measure,
    method,
    serving.method is not null as is_champion,
    coalesce(tried.days, 0) as days,
    tried.pinball,
    tried.coverage,
    %(nominal_coverage)s::double precision as nominal_coverage,
    coalesce(realised.days_judged, 0) as days_judged,
    coalesce(realised.alarms, 0) as alarms,
    coalesce(realised.alarms_expected, 0) as alarms_expected
from realised
full join ml.forecast_backtests as tried using (tenant_id, template_id, measure, method)
left join serving using (tenant_id, template_id, measure, method)
order by tenant_id, template_id, measure, method
"""
_REALISED = """
select
    coalesce(sum(days_judged), 0)::bigint as days,
    coalesce(sum(alarms), 0)::bigint as alarms,
    coalesce(sum(alarms_expected), 0) as expected,
    coalesce(sum(coverage * days) filter (where is_champion), 0) as covered,
    coalesce(sum(days) filter (where is_champion and coverage is not null), 0)::bigint as tried
from ml.forecast_backtests
where measure = %(measure)s
"""
# Whoever waits longest goes first. A night tries one turn's part of a large fleet, so that no night pays for all.
_DUE = """
select champion.tenant_id, champion.template_id, model.method, champion.is_pinned
from ml.forecast_champions as champion
inner join ml.drift_forecasts as served using (tenant_id, template_id, measure)
left join (
    select tenant_id, template_id, measure, max(tried_on) as tried_on from ml.forecast_backtests
    group by tenant_id, template_id, measure
) as tried using (tenant_id, template_id, measure)
inner join ml.forecast_models as model on champion.model_id = model.model_id
where
    champion.measure = %(measure)s and served.date = %(today)s
    and (tried.tried_on is null or tried.tried_on <= %(today)s::date - %(turn)s)
order by tried.tried_on nulls first, champion.tenant_id, champion.template_id
limit (
    select
        greatest(
            greatest(%(at_least)s, count(*) / %(turn)s + 1)
            - (
                select count(distinct (tenant_id, template_id)) from ml.forecast_backtests
                where measure = %(measure)s and tried_on = %(today)s
            ),
            0
        )
    from ml.forecast_champions where measure = %(measure)s
)
"""
_CHOOSE = """
update ml.forecast_champions set chosen_method = %(method)s, chosen_at = now()
where
    tenant_id = %(tenant_id)s and template_id = %(template_id)s and measure = %(measure)s and not is_pinned
"""
_FRESH = """
create temporary table fresh_backtests (
    place integer not null, method integer not null, pinball double precision not null,
    coverage double precision not null, days integer not null
) on commit drop;
create temporary table fresh_subjects (
    place integer primary key, tenant_id text not null, template_id uuid not null, template text not null
) on commit drop
"""
_COPY = "copy fresh_backtests from stdin (format binary)"
_COPY_SUBJECTS = "copy fresh_subjects from stdin (format binary)"
_TRIED = """
insert into ml.forecast_backtests as known
    (tenant_id, template_id, template, measure, method, is_champion, days, pinball, coverage, nominal_coverage,
     days_judged, alarms, alarms_expected, tried_on)
select
    subjects.tenant_id, subjects.template_id, subjects.template, %(measure)s,
    (%(methods)s::text [])[fresh.method + 1], false, fresh.days, fresh.pinball, fresh.coverage,
    %(nominal_coverage)s, 0, 0, 0, %(today)s
from fresh_backtests as fresh
inner join fresh_subjects as subjects using (place)
on conflict (tenant_id, template_id, measure, method) do update set
    (days, pinball, coverage, tried_on)
    = row(excluded.days, excluded.pinball, excluded.coverage, excluded.tried_on),
    computed_at = now()
"""
# Versions that were registered before their method was first tried.
_COMPLETE = """
update ml.forecast_models as model
set pinball = fresh.pinball, coverage = fresh.coverage, backtest_days = fresh.days
from fresh_backtests as fresh
inner join fresh_subjects as subjects using (place)
where
    model.tenant_id = subjects.tenant_id
    and model.template_id = subjects.template_id
    and model.measure = %(measure)s
    and model.method = (%(methods)s::text [])[fresh.method + 1]
    and model.pinball is null
"""
_KEY = ("tenant_id", "template_id", "measure", "method")


class Backtest(NamedTuple):
    """A row of `ml.forecast_backtests`."""

    tenant_id: str
    template_id: UUID
    template: str
    measure: Measure
    method: str
    is_champion: bool
    days: int
    pinball: float | None
    coverage: float | None
    nominal_coverage: float
    days_judged: int
    alarms: int
    alarms_expected: float


@dataclass(frozen=True)
class Realised:
    """Alarms of a measure's judged days against those that its budgets let come without a cause.

    Attributes:
        coverage: part of the champions' past days within two standard deviations; should be NOMINAL_COVERAGE.
        least, most: between them chance alone leaves the number of alarms, but for one time in a thousand.
    """

    days: int
    alarms: int
    expected: float
    coverage: float
    least: int
    most: int

    @property
    def holds(self) -> bool:
        """Whether there are as many as were asked for."""
        return self.least <= self.alarms <= self.most


def read_backtests(connection: Connection, today: date) -> list[Backtest]:
    """The last 90 days' verdicts held against what came."""
    values = {"since": today - LOOKS_BACK, "today": today, "nominal_coverage": NOMINAL_COVERAGE}
    return [Backtest(*row) for row in connection.execute(_RESULTS, values)]


def try_methods(connection: Connection, today: date) -> dict[Measure, tuple[int, int]]:
    """Try every method on the last 90 days of templates whose turn it is, and choose champions.

    Returns:
        By measure, where there were any: how many templates were tried, and how many of them get another champion.
    """
    connection.execute(_ONE_WRITER)
    tried: dict[Measure, tuple[int, int]] = {}
    for measure in MEASURES:
        values = {"measure": measure, "today": today, "at_least": TRIED_AT_LEAST, "turn": TURN}
        if due := {row[:2]: row[2:] for row in connection.execute(_DUE, values)}:
            histories = read_histories_of(connection, today, list(due))
            tried[measure] = len(due), _try_measure(connection, histories, measure, due, today)
    return tried


def _try_measure(connection: Connection, histories: Histories, measure: Measure, due: _Due, today: date) -> int:
    everyone = np.ones(len(histories.subjects), dtype=np.bool_)
    panel = histories.panel(measure, read_events(connection, histories, measure), everyone)
    subjects = panel.subjects
    tested = backtest(panel)
    serving = np.array([METHODS.index(due[subject[:2]][0]) for subject in subjects], dtype=np.int8)
    _write_tested(connection, measure, subjects, tested, today)
    changed = [
        {"tenant_id": subject.tenant_id, "template_id": subject.template_id, "measure": measure, "method": METHODS[new]}
        for subject, old, new in zip(subjects, serving, champions(tested, serving), strict=True)
        if old != new and not due[subject[:2]][1]
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_CHOOSE, changed)
    return len(changed)


def _write_tested(
    connection: Connection, measure: Measure, subjects: Sequence[Subject], tested: Tested, today: date
) -> None:
    place, method = np.nonzero((tested.days > 0) & ~np.isnan(tested.pinball))
    columns: list[npt.NDArray[Any]] = [place.astype(np.int32), method.astype(np.int32)]
    columns += [tested.pinball[place, method], tested.coverage[place, method]]
    columns.append(tested.days[place, method].astype(np.int32))
    values = {"measure": measure, "methods": list(METHODS), "nominal_coverage": NOMINAL_COVERAGE, "today": today}
    with connection.cursor() as cursor:
        cursor.execute(_FRESH)
        with cursor.copy(_COPY_SUBJECTS) as copy:
            copy.set_types(["int4", "text", "uuid", "text"])
            for number, subject in enumerate(subjects):
                copy.write_row((number, *subject))
        copy_columns(connection, _COPY, columns)
        cursor.execute("analyze fresh_backtests, fresh_subjects")
        cursor.execute(_TRIED, values)
        cursor.execute(_COMPLETE, values)
        cursor.execute("drop table fresh_backtests, fresh_subjects")


def write_backtests(connection: Connection, results: Sequence[Backtest]) -> int:
    """Store results; returns how many rows differ from before."""
    return replace_rows(connection, "forecast_backtests", _KEY, Backtest, results)


def read_realised(connection: Connection, measure: Measure) -> Realised:
    """The sums over all templates of a measure, of what is stored."""
    row = connection.execute(_REALISED, {"measure": measure}).fetchone()
    days, alarms, expected, covered, tried = row or (0, 0, 0.0, 0.0, 0)
    least, most = stats.binom.interval(1 - CHANCE, days, expected / days) if days else (0, 0)
    return Realised(days, alarms, expected, covered / max(tried, 1), int(least), int(most))
