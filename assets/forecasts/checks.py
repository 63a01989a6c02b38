"""Checks of forecasts: what must hold of every stored verdict, and whether alarms come as often as was asked for.

Belongs here: the checks and their SQL. Does not belong here: how verdicts are made.
"""

from datetime import date, timedelta
from typing import Any, LiteralString, get_args

import dagster as dg
import numpy as np

from assets.cadence import CHECK_TAGS, NIGHTLY
from assets.forecasts.backtests import read_realised
from assets.forecasts.judging import JUDGED_DAYS
from assets.forecasts.panel import Measure
from assets.forecasts.reading import read_histories
from assets.forecasts.wide import connect_wide
from storage.clock import Clock
from storage.database import Database

# The fits that are made in process are compared with Prophet's own on so many templates a night, out of so many drawn:
# to fit all of them once more would say no more.
SAMPLE = 8
DRAWN = 64
LEAST_DAYS = 30
# Nats of log posterior that ours may fall short by, and what Prophet may still move when it begins at our maximum, in
# units of the scale.
SHORT, MOVED = 1e-4, 1e-3
# Of what is called no chance, at most so much is.
SURE = 0.05

# Of the days that a run may write; what is older was checked when it was, and stands.
LOOKS_AHEAD = """
select count(*), count(*) filter (where forecast.fitted_to >= forecast.date or model.fitted_to > forecast.fitted_to)
from ml.drift_forecasts as forecast
left join ml.forecast_models as model using (model_id)
where forecast.date >= %(since)s
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
where date >= %(since)s
"""


def _check(database: Database, query: LiteralString, today: date) -> dg.AssetCheckResult:
    with connect_wide(database) as connection:
        row = connection.execute(query, {"since": today - timedelta(days=JUDGED_DAYS)}).fetchone()
    total, wrong = row or (0, 0)
    return dg.AssetCheckResult(passed=wrong == 0, metadata={"forecasts": total, "violations": wrong})


@dg.asset_check(
    asset="drift_forecasts",
    blocking=True,
    description="Every forecast was made from days before the one it judges, and so was its model.",
)
def fitted_before_the_day_judged(
    database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]
) -> dg.AssetCheckResult:
    """No baseline contains the data it judges."""
    return _check(database, LOOKS_AHEAD, clock.now().date())


@dg.asset_check(
    asset="drift_forecasts",
    blocking=True,
    description="0 <= lower <= expected <= upper <= 1; a day is an anomaly exactly if its drift is above the upper "
    "bound, or its reliability below the lower one.",
)
def bounds_in_order(database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]) -> dg.AssetCheckResult:
    """Bounds enclose the expectation, within the score's range, and verdicts follow from them."""
    return _check(database, OUT_OF_ORDER, clock.now().date())


@dg.asset_check(
    asset="forecast_backtests",
    description="As many alarms in the last 90 days as the budgets let come without a cause, as far as chance goes "
    "(once in a thousand). More of them may be true ones: then look who alarms. Fewer are bounds too wide.",
)
def coverage_within_band(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """The realised rate of alarms is the nominal one."""
    with connect_wide(database) as connection:
        sums_of = {measure: read_realised(connection, measure) for measure in get_args(Measure)}
    told, metadata = list[str](), dict[str, Any]()
    for measure, sums in sums_of.items():
        if sums.alarms > sums.most:
            told.append(
                f"{sums.alarms} alarms of {measure} in 90 days, where chance leaves {sums.most} at most: "
                "the mart forecast_backtests says whose"
            )
        elif not sums.holds:
            told.append(
                f"{sums.alarms} alarms of {measure} in 90 days, where chance leaves {sums.least} at least: "
                "bounds are too wide"
            )
        metadata |= {
            f"{measure}_alarms": sums.alarms,
            f"{measure}_alarms_nominal": round(sums.expected, 2),
            f"{measure}_alarms_at_least": sums.least,
            f"{measure}_alarms_at_most": sums.most,
        }
    return dg.AssetCheckResult(
        passed=not told,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=metadata,
        description="; ".join(told) or None,
    )


@dg.asset_check(
    asset="drift_forecasts",
    metadata={CHECK_TAGS: (NIGHTLY,)},
    description="For a random sample of templates, another each night: the fit made in process is at least as probable "
    "as Prophet's own, and Prophet has nothing to change about it.",
)
def agrees_with_prophet(database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]) -> dg.AssetCheckResult:
    """What is called Prophet's forecast is Prophet's."""
    from assets.forecasts.prophet_map import fit
    from assets.forecasts.prophet_reference import compare

    today = clock.now().date()
    with connect_wide(database) as connection:
        histories = read_histories(connection, today)
    values = histories.values["drift"]
    usable = np.flatnonzero((~np.isnan(values)).sum(axis=1) >= LEAST_DAYS)
    metadata: dict[str, Any] = {"templates_compared": 0}
    if not len(usable):
        return dg.AssetCheckResult(passed=True, metadata=metadata)
    seed = today.toordinal()
    drawn = values[np.sort(np.random.default_rng(seed).permutation(usable)[:DRAWN])]
    found = compare(fit(drawn, histories.first_day), drawn, SAMPLE, seed, processes=1)
    gained, moved = np.nanmin(found.gained, initial=0.0), np.nanmax(found.moved, initial=0.0)
    metadata |= {
        "templates_compared": len(found.templates),
        "log_posterior_gained_at_least": float(gained),
        "prophet_moves_at_most": float(moved),
        "apart_at_most": float(np.nanmax(found.apart, initial=0.0)),
        "prophet_failures": len(found.errors),
    }
    return dg.AssetCheckResult(
        passed=bool(gained >= -SHORT and moved <= MOVED), severity=dg.AssetCheckSeverity.WARN, metadata=metadata
    )


def definitions() -> list[dg.AssetChecksDefinition]:
    """All of them but `agrees_with_prophet`, which is for the night alone."""
    return [fitted_before_the_day_judged, bounds_in_order, coverage_within_band]
