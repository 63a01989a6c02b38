"""The nightly check that the fits made in process are Prophet's: a random sample is fitted by `prophet.Prophet` too.

Belongs here: which templates are compared, and when they agree. Does not belong here: the comparison
(`prophet_reference`).
"""

from typing import Any

import dagster as dg
import numpy as np

from assets.cadence import CHECK_TAGS, NIGHTLY
from assets.forecasts.reading import read_histories
from storage.clock import Clock
from storage.database import Database

SAMPLE = 8
# Of so many a sample is taken: to fit all of them once more would say no more.
DRAWN = 64
LEAST_DAYS = 30
# Nats of log posterior that ours may fall short by, and what Prophet may still move when it begins at our maximum, in
# units of the scale.
SHORT, MOVED = 1e-4, 1e-3


@dg.asset_check(
    asset="drift_forecasts",
    metadata={CHECK_TAGS: (NIGHTLY,)},
    description="For a random sample of templates, another each night: the fit made in process is at least as probable as "
    "Prophet's own, and Prophet has nothing to change about it.",
)
def agrees_with_prophet(database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]) -> dg.AssetCheckResult:
    """What is called Prophet's forecast is Prophet's."""
    from assets.forecasts.prophet_map import fit
    from assets.forecasts.prophet_reference import compare

    today = clock.now().date()
    with database.connect() as connection:
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
