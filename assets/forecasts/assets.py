"""Assets of forecasts: `forecast_models`, `drift_forecasts`, `forecast_backtests`, `drift_anomalies`.

Belongs here: Dagster's view of them. Does not belong here: any judgement, any SQL; their checks (`checks`).
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, get_args

import dagster as dg

from assets.figures import markdown
from assets.forecasts import checks, stored
from assets.forecasts.anomalies import Anomaly, Trouble, most_in_trouble, read_bands, write_anomalies
from assets.forecasts.apart import learn_lessons, replay_part
from assets.forecasts.backtests import (
    NOMINAL_COVERAGE,
    Backtest,
    read_backtests,
    read_realised,
    try_methods,
    write_backtests,
)
from assets.forecasts.forecasting import Outcome, judge_work, prepare, store
from assets.forecasts.hindsight import look_back
from assets.forecasts.panel import Measure
from assets.forecasts.plots import SHOWN, forecast_figure, rates_figure
from assets.forecasts.reading import read_histories
from assets.forecasts.wide import connect_wide
from storage.clock import Clock
from storage.database import Database
from storage.settings import Settings

SCORE_MONTHS = dg.AssetKey(["intermediate", "int_score_months"])
EXTRACTOR_TOTALS = dg.AssetKey(["intermediate", "int_extractor_totals"])
MEASURES: tuple[Measure, ...] = get_args(Measure)
TABLE_ROWS = 10
PANELS = 6
_GROUP = "forecasts"
_OWNERS = ["team:tidemark"]


@dg.op(ins={"histories": dg.In(dg.Nothing)}, out=dg.DynamicOut(int))
def parts_of_the_fleet(
    database: dg.ResourceParam[Database], settings: dg.ResourceParam[Settings], clock: dg.ResourceParam[Clock]
) -> Iterator[dg.DynamicOutput[int]]:
    """Learn what all parts need of the fleet, and name the parts; one part is the judging run's own."""
    parts = settings.forecast_parts
    if parts > 1:
        for measure in MEASURES:
            learn_lessons(database, clock.now().date(), measure)
        for part in range(parts):
            yield dg.DynamicOutput(part, mapping_key=str(part))


@dg.op
def replay_templates(
    database: dg.ResourceParam[Database],
    settings: dg.ResourceParam[Settings],
    clock: dg.ResourceParam[Clock],
    part: int,
) -> int:
    """Fit and replay a part's templates as far as that isn't remembered; returns how many."""
    today = clock.now().date()
    return sum(replay_part(database, today, measure, part, settings.forecast_parts) for measure in MEASURES)


@dg.op
def replayed_templates(counts: list[int]) -> dg.Output[None]:
    """Tell how many there were."""
    return dg.Output(None, metadata={"parts": len(counts), "histories_replayed": sum(counts)})


@dg.graph_asset(
    ins={"histories": dg.AssetIn(SCORE_MONTHS, dagster_type=dg.Nothing)},
    group_name=_GROUP,
    owners=_OWNERS,
    kinds={"python", "prophet", "postgres"},
    description=(
        "Templates' histories replayed and fitted by parts of the fleet, each part a step that any process or machine "
        "may take: TIDEMARK_FORECAST_EXECUTOR, TIDEMARK_FORECAST_SHARDS. With one part there is nothing to do here: "
        "drift_forecasts replays by itself what is not remembered."
    ),
)
def forecast_memory(histories: None) -> None:
    """One step a part."""
    counts = parts_of_the_fleet(histories).map(replay_templates).collect()
    return replayed_templates(counts)  # type: ignore[no-any-return] # what a graph returns is the step's output


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "forecast_models",
            deps=[SCORE_MONTHS, EXTRACTOR_TOTALS, "forecast_memory"],
            description=(
                "The registry: every weekly version of each template's forecaster with its data window, the hash of "
                "its history, its parameters, and which one serves (the champion) since when and why."
            ),
            group_name=_GROUP,
            owners=_OWNERS,
            kinds={"python", "postgres"},
        ),
        dg.AssetSpec(
            "drift_forecasts",
            deps=[SCORE_MONTHS, EXTRACTOR_TOTALS, "forecast_memory"],
            description=(
                "What drift and reliability of each template and day are expected to be, from earlier days alone, with "
                "the bounds that keep the tenant's budget of false alarms; 7 days ahead with the probability that "
                "the threshold is crossed. A verdict stands until the template's own days change."
            ),
            group_name=_GROUP,
            owners=_OWNERS,
            kinds={"python", "prophet", "postgres"},
        ),
    ],
)
def learn_of_templates(
    database: dg.ResourceParam[Database], settings: dg.ResourceParam[Settings], clock: dg.ResourceParam[Clock]
) -> Iterator[dg.MaterializeResult[None]]:
    """Judge what is new or has changed, forecast the coming days and register the fits, in one transaction."""
    today = clock.now().date()
    started = perf_counter()
    with connect_wide(database) as connection:
        stored.one_writer(connection)
        histories = read_histories(connection, today)
        read = perf_counter()
        works = [prepare(connection, histories, measure, today) for measure in MEASURES]
        with ThreadPoolExecutor(len(works)) as threads:
            verdicts_of = list(threads.map(judge_work, works))
        found = {
            work.measure: store(connection, work, verdicts) for work, verdicts in zip(works, verdicts_of, strict=True)
        }
        looked = {
            work.measure: look_back(connection, work.standing, settings.forecast_hindsight)
            for work in works
            if work.standing
        }
    seconds = {"seconds_reading": round(read - started, 3), "seconds": round(perf_counter() - started, 3)}
    yield dg.MaterializeResult(
        asset_key="forecast_models", metadata=_of_each(found, ("models_registered", "promotions"))
    )
    names = ("templates", "templates_inactive", "templates_judged_anew", "days_judged", "rows_changed")
    hindsight = {
        f"{measure}_{name}": count
        for measure, back in looked.items()
        for name, count in (("days_judged_in_hindsight", back.days), ("templates_awaiting_hindsight", back.left))
    }
    yield dg.MaterializeResult(asset_key="drift_forecasts", metadata={**_of_each(found, names), **hindsight, **seconds})


@dg.asset(
    deps=["drift_forecasts"],
    description=(
        "How forecasts of the last 90 days did, by template and method: loss and coverage of each, tried every four "
        "weeks, by which champions are chosen; and alarms against those that the budget lets come without a cause."
    ),
    group_name=_GROUP,
    owners=_OWNERS,
    kinds={"python", "postgres"},
)
def forecast_backtests(
    database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]
) -> dg.MaterializeResult[None]:
    """Hold stored verdicts against what came."""
    with connect_wide(database) as connection:
        today = clock.now().date()
        tried = try_methods(connection, today)
        results = read_backtests(connection, today)
        changed = write_backtests(connection, results)
        sums_of = {measure: read_realised(connection, measure) for measure in MEASURES}
    metadata: dict[str, Any] = {"rows_changed": changed}
    for measure, (templates, chosen) in tried.items():
        metadata |= {f"{measure}_templates_tried": templates, f"{measure}_champions_chosen": chosen}
    for measure, sums in sums_of.items():
        metadata |= {
            f"{measure}_days": sums.days,
            f"{measure}_alarms": sums.alarms,
            f"{measure}_alarms_nominal": round(sums.expected, 2),
            f"{measure}_coverage": round(sums.coverage, 5),
            f"{measure}_coverage_nominal": NOMINAL_COVERAGE,
        }
        if sums.expected:
            metadata[f"{measure}_alarms_to_nominal"] = round(sums.alarms / sums.expected, 3)
    if results:
        if ranked := sorted((each for each in results if each.alarms > each.alarms_expected), key=_surplus):
            metadata["more_alarms_than_allowed_for"] = dg.MetadataValue.table(
                [_result(each) for each in ranked[:TABLE_ROWS]]
            )
        metadata["alarms_by_template"] = dg.MetadataValue.md(markdown(rates_figure(results), "alarms by template"))
    return dg.MaterializeResult(metadata=metadata)


@dg.asset(
    deps=["drift_forecasts"],
    description=(
        "The digest of the last two weeks' anomalies, each with how sure it is among all that was judged that day; and "
        "the templates most in trouble."
    ),
    group_name=_GROUP,
    owners=_OWNERS,
    kinds={"python", "postgres"},
)
def drift_anomalies(database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]) -> dg.MaterializeResult[None]:
    """Collect anomalies, and show who is in trouble."""
    today = clock.now().date()
    with connect_wide(database) as connection:
        found, changed, judged = write_anomalies(connection, today)
        troubles = most_in_trouble(connection, today, TABLE_ROWS)
        bands = read_bands(connection, troubles[:PANELS], today - SHOWN)
    metadata: dict[str, Any] = {
        "anomalies": len(found),
        "days_judged": judged,
        "surely_no_chance": sum(anomaly.q_value < checks.SURE for anomaly in found),
        "rows_changed": changed,
    }
    if found:
        newest = sorted(found, key=lambda each: (-each.date.toordinal(), each.q_value, each.tenant_id, each.template))
        metadata["newest_anomalies"] = dg.MetadataValue.table([_anomaly(each) for each in newest[:TABLE_ROWS]])
    if troubles:
        metadata["most_in_trouble"] = dg.MetadataValue.table([_trouble(each) for each in troubles])
        figure = forecast_figure(troubles[:PANELS], bands, today)
        metadata["forecast_against_actual"] = dg.MetadataValue.md(markdown(figure, "forecast against actual"))
    return dg.MaterializeResult(metadata=metadata)


def _of_each(found: Mapping[Measure, Outcome], names: Sequence[str]) -> dict[str, int]:
    return {f"{measure}_{name}": getattr(outcome, name) for measure, outcome in found.items() for name in names}


def _surplus(result: Backtest) -> tuple[float, str, str, str]:
    return result.alarms_expected - result.alarms, result.tenant_id, result.template, result.measure


def _result(result: Backtest) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "tenant": result.tenant_id,
            "template": result.template,
            "measure": result.measure,
            "method": result.method,
            "days_judged": result.days_judged,
            "alarms": result.alarms,
            "allowed_for": round(result.alarms_expected, 2),
            "days_tried": result.days,
            "loss": None if result.pinball is None else round(result.pinball, 5),
            "coverage": None if result.coverage is None else round(result.coverage, 4),
        }
    )


def _anomaly(anomaly: Anomaly) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "tenant": anomaly.tenant_id,
            "template": anomaly.template,
            "measure": anomaly.measure,
            "date": anomaly.date.isoformat(),
            "actual": round(anomaly.actual, 4),
            "expected": round(anomaly.yhat, 4),
            "bound": round(anomaly.bound, 4),
            "p_value": anomaly.p_value,
            "q_value": round(anomaly.q_value, 5),
        }
    )


def _trouble(trouble: Trouble) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "tenant": trouble.tenant_id,
            "template": trouble.template,
            "measure": trouble.measure,
            "alarms": trouble.alarms,
            "p_crossing": None if trouble.p_crossing is None else round(trouble.p_crossing, 3),
            "threshold": trouble.threshold,
        }
    )


def definitions() -> list[dg.AssetsDefinition]:
    """The forecasts' assets and checks, for orchestration."""
    return [forecast_memory, learn_of_templates, forecast_backtests, drift_anomalies, *checks.definitions()]
