"""Checks of forecasts: what must hold of every stored verdict, and whether alarms come as often as was asked for.

Belongs here: the checks and their SQL. Does not belong here: how verdicts are made.
"""

from typing import Any, get_args

import dagster as dg

from assets.forecasts.backtests import read_backtests, realised
from assets.forecasts.panel import Measure
from storage.clock import Clock
from storage.database import Database

# Of what is called no chance, at most so much is.
SURE = 0.05

LOOKS_AHEAD = """
select count(*), count(*) filter (where forecast.fitted_to >= forecast.date or model.fitted_to > forecast.fitted_to)
from ml.drift_forecasts as forecast
left join ml.forecast_models as model using (model_id)
"""
OUT_OF_ORDER = """
select
    count(*),
    count(*) filter (
        where not (0 <= yhat_lower and yhat_lower <= yhat and yhat <= yhat_upper and yhat_upper <= 1)
        or is_anomaly is distinct from coalesce(
            case measure when 'drift' then actual > yhat_upper else actual < yhat_lower end, false
        )
    )
from ml.drift_forecasts
"""


def _check(database: Database, query: str) -> dg.AssetCheckResult:
    with database.connect() as connection:
        row = connection.execute(query.encode()).fetchone()
    total, wrong = row or (0, 0)
    return dg.AssetCheckResult(passed=wrong == 0, metadata={"forecasts": total, "violations": wrong})


@dg.asset_check(
    asset="drift_forecasts",
    blocking=True,
    description="Every forecast was made from days before the one it judges, and so was its model.",
)
def fitted_before_the_day_judged(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """No baseline contains the data it judges."""
    return _check(database, LOOKS_AHEAD)


@dg.asset_check(
    asset="drift_forecasts",
    blocking=True,
    description="0 <= lower <= expected <= upper <= 1; a day is an anomaly exactly if its drift is above the upper "
    "bound, or its reliability below the lower one.",
)
def bounds_in_order(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Bounds enclose the expectation, within the score's range, and verdicts follow from them."""
    return _check(database, OUT_OF_ORDER)


@dg.asset_check(
    asset="forecast_backtests",
    description="As many alarms in the last 90 days as the budgets let come without a cause, as far as chance goes "
    "(once in a thousand). More of them may be true ones: then look who alarms. Fewer are bounds too wide.",
)
def coverage_within_band(database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]) -> dg.AssetCheckResult:
    """The realised rate of alarms is the nominal one."""
    with database.connect() as connection:
        results = read_backtests(connection, clock.now().date())
    holds, metadata = True, dict[str, Any]()
    for measure in get_args(Measure):
        sums = realised(results, measure)
        holds = holds and sums.holds
        metadata |= {
            f"{measure}_alarms": sums.alarms,
            f"{measure}_alarms_nominal": round(sums.expected, 2),
            f"{measure}_alarms_at_least": sums.least,
            f"{measure}_alarms_at_most": sums.most,
        }
    return dg.AssetCheckResult(passed=holds, severity=dg.AssetCheckSeverity.WARN, metadata=metadata)


def definitions() -> list[dg.AssetChecksDefinition]:
    """All of them."""
    return [fitted_before_the_day_judged, bounds_in_order, coverage_within_band]
