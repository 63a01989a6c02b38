"""Asset `drift_forecasts` and its checks: reads marts.drift_history, judges, writes ml.drift_forecasts.

Belongs here: Dagster's view of forecasts. Does not belong here: any judgement (engine.py), any SQL (tables.py) but the
checks' own.
"""

from collections.abc import Sequence
from datetime import date
from time import perf_counter
from typing import Any

import dagster as dg

from assets.figures import markdown
from assets.forecasts.engine import Judgement, is_inactive, judge
from assets.forecasts.history import History
from assets.forecasts.plots import forecast_figure
from assets.forecasts.summary import Trouble, counts, date_range, judged, most_in_trouble
from assets.forecasts.tables import Earlier, read_earlier, read_histories, write_forecasts
from storage.clock import Clock
from storage.database import Database

DRIFT_HISTORY = dg.AssetKey(["marts", "drift_history"])
TABLE_ROWS = 10
PANELS = 6
NAMED_FAILURES = 20

LOOKS_AHEAD = "select count(*), count(*) filter (where fitted_to >= date) from ml.drift_forecasts"
OUT_OF_ORDER = """
select
    count(*),
    count(*) filter (
        where not (0 <= yhat_lower and yhat_lower <= yhat and yhat <= yhat_upper and yhat_upper <= 1)
        or is_anomaly is distinct from coalesce(actual > yhat_upper, false)
    )
from ml.drift_forecasts
"""


@dg.asset(
    group_name="forecasts",
    owners=["team:tidemark"],
    kinds={"python", "prophet", "postgres"},
    deps=[DRIFT_HISTORY],
    description=(
        "Expected drift of each template and day with its two-sigma bounds, from earlier days alone: Prophet, or a "
        "z-score under 30 days of history. The last 14 days with data are judged, 7 days from today on are forecast."
    ),
)
def drift_forecasts(
    context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]
) -> dg.MaterializeResult[None]:
    """Judge every active template and store what is new or changed, in one transaction."""
    today = clock.now().date()
    with database.connect() as connection:
        known = read_histories(connection, today)
        earlier = read_earlier(connection, today)
    active = [history for history in known if not is_inactive(history, today)]
    started = perf_counter()
    judgements = [_judge(history, earlier, today) for history in active]
    seconds = perf_counter() - started
    with database.connect() as connection:
        changed = write_forecasts(connection, (row for judgement in judgements for row in judgement.forecasts))
    for failure in _failures(judgements):
        context.log.warning("z-score stands in: %s", failure)
    numbers = {
        "fit_seconds": round(seconds, 3),
        "rows_changed": changed,
        "templates_inactive": len(known) - len(active),
    }
    return dg.MaterializeResult(metadata=_metadata(judgements, active) | numbers)


def _judge(history: History, earlier: dict[tuple[str, Any], Earlier], today: date) -> Judgement:
    before = earlier.get((history.subject.tenant_id, history.subject.template_id), Earlier())
    return judge(history, today, flagged=frozenset(before.flagged), remembered=before.bands)


def _metadata(judgements: Sequence[Judgement], active: Sequence[History]) -> dict[str, Any]:
    troubles = most_in_trouble(judgements)
    metadata: dict[str, Any] = dict(counts(judgements))
    metadata["templates_too_short"] = len(active) - metadata["templates_judged"]
    if span := date_range(judgements):
        metadata |= {"first_date": span[0].isoformat(), "last_date": span[1].isoformat()}
    if failures := _failures(judgements):
        metadata["prophet_fallback_reasons"] = dg.MetadataValue.md(
            "\n".join(f"- {failure}" for failure in failures[:NAMED_FAILURES])
        )
    if troubles:
        metadata["most_in_trouble"] = dg.MetadataValue.table([_record(trouble) for trouble in troubles[:TABLE_ROWS]])
        figure = forecast_figure(
            [trouble.judgement for trouble in troubles[:PANELS]], {history.subject: history for history in active}
        )
        metadata["forecast_against_actual"] = dg.MetadataValue.md(markdown(figure, "forecast against actual"))
    return metadata


def _failures(judgements: Sequence[Judgement]) -> list[str]:
    return [
        f"{judgement.subject.tenant_id}/{judgement.subject.template}, fitted before {failure}"
        for judgement in judgements
        for failure in judgement.failures
    ]


def _record(trouble: Trouble) -> dg.TableRecord:
    subject, newest = trouble.judgement.subject, trouble.newest
    return dg.TableRecord(
        {
            "tenant": subject.tenant_id,
            "template": subject.template,
            "anomalies": trouble.anomalies,
            "of_days": len(judged(trouble.judgement)),
            "worst_day": trouble.worst_day.date.isoformat(),
            "worst_excess_in_half_widths": round(trouble.worst, 2),
            "newest_day": newest.date.isoformat(),
            "actual": round(newest.actual or 0.0, 4),
            "expected": round(newest.band.yhat, 4),
            "upper": round(newest.band.upper, 4),
            "method": newest.model.method,
        }
    )


def _check(database: Database, query: str) -> dg.AssetCheckResult:
    with database.connect() as connection:
        row = connection.execute(query.encode()).fetchone()
    total, wrong = row or (0, 0)
    return dg.AssetCheckResult(passed=wrong == 0, metadata={"forecasts": total, "violations": wrong})


@dg.asset_check(
    asset=drift_forecasts,
    blocking=True,
    description="Every forecast was fitted on days before the one it judges.",
)
def fitted_before_the_day_judged(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """No baseline contains the data it judges."""
    return _check(database, LOOKS_AHEAD)


@dg.asset_check(
    asset=drift_forecasts,
    blocking=True,
    description="0 <= lower <= expected <= upper <= 1, and a day is an anomaly exactly if above its upper bound.",
)
def bounds_in_order(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Bounds enclose the expectation, within the score's range, and verdicts follow from them."""
    return _check(database, OUT_OF_ORDER)


def definitions() -> list[dg.AssetsDefinition]:
    """The forecasts' assets and checks, for orchestration."""
    return [drift_forecasts, fitted_before_the_day_judged, bounds_in_order]
