"""How forecasts of past days did: from stored verdicts, each of which was made from earlier days alone.

Belongs here: SQL that holds them against what came, and writes `ml.forecast_backtests`. Does not belong here: which
method is to serve (`judging`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple
from uuid import UUID

from scipy import stats

from assets.forecasts.panel import Measure
from assets.whole_table import replace_rows
from storage.database import Connection

LOOKS_BACK = timedelta(days=90)
# So improbable is it that the realised rate leaves its band by chance.
CHANCE = 0.001

# The loss of the expectation is half its absolute error: that of the median, where over and under count the same. The
# band leaves out the budget above (below, of reliability) and half of it on the other side.
_RESULTS = """
with days as (
    select
        *,
        1 / (7 * budget_weeks) as rate,
        actual between yhat_lower and yhat_upper as is_within
    from ml.drift_forecasts
    where date >= %(since)s and date < %(today)s and actual is not null
),

serving as (
    select champion.tenant_id, champion.template_id, champion.measure, model.method
    from ml.forecast_champions as champion
    inner join ml.forecast_models as model using (model_id)
)

select
    days.tenant_id,
    days.template_id,
    min(days.template) as template,
    days.measure,
    days.method,
    coalesce(bool_or(days.method = serving.method), false) as is_champion,
    count(*)::integer as days,
    avg(abs(days.actual - days.yhat)) / 2 as pinball,
    avg(days.is_within::integer)::double precision as coverage,
    avg(1 - 1.5 * days.rate) as nominal_coverage,
    count(*)::integer as days_judged,
    count(*) filter (where days.is_anomaly)::integer as alarms,
    sum(days.rate) as alarms_expected
from days
left join serving using (tenant_id, template_id, measure)
group by days.tenant_id, days.template_id, days.measure, days.method
order by days.tenant_id, days.template_id, days.measure, days.method
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
    pinball: float
    coverage: float
    nominal_coverage: float
    days_judged: int
    alarms: int
    alarms_expected: float


@dataclass(frozen=True)
class Realised:
    """Alarms of a measure's judged days against those that its budgets let come without a cause.

    Attributes:
        least, most: between them chance alone leaves the number of alarms, but for one time in a thousand.
    """

    days: int
    alarms: int
    expected: float
    coverage: float
    nominal_coverage: float
    least: int
    most: int

    @property
    def holds(self) -> bool:
        """Whether there are as many as were asked for."""
        return self.least <= self.alarms <= self.most


def read_backtests(connection: Connection, today: date) -> list[Backtest]:
    """The last 90 days' verdicts held against what came."""
    values = {"since": today - LOOKS_BACK, "today": today}
    return [Backtest(*row) for row in connection.execute(_RESULTS, values)]


def write_backtests(connection: Connection, results: Sequence[Backtest]) -> int:
    """Store results; returns how many rows differ from before."""
    return replace_rows(connection, "forecast_backtests", _KEY, Backtest, results)


def realised(results: Sequence[Backtest], measure: Measure) -> Realised:
    """The sums over all templates of a measure."""
    chosen = [result for result in results if result.measure == measure]
    days = sum(result.days_judged for result in chosen)
    expected = sum(result.alarms_expected for result in chosen)
    least, most = stats.binom.interval(1 - CHANCE, days, expected / days) if days else (0, 0)
    return Realised(
        days,
        sum(result.alarms for result in chosen),
        expected,
        sum(result.coverage * result.days for result in chosen) / max(days, 1),
        sum(result.nominal_coverage * result.days for result in chosen) / max(days, 1),
        int(least),
        int(most),
    )
