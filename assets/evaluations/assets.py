"""Dagster's view of the landing: assets `evaluations` (a partition a day) and `feedback`, with their checks."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pandas as pd

from assets.cadence import OVERDUE_AFTER, STALE_AFTER
from assets.evaluations.suite import RULES, Outcome, validate
from storage.database import Connection, Database

OWNERS = ["team:tidemark"]
_ROWS_JUDGED = 100_000
_BATCHES_RECOUNTED = 200

_DAYS = """
select
    (created_at at time zone 'UTC')::date as day, count(*) as evaluations, count(distinct tenant_id) as tenants,
    count(distinct template_id) as templates, count(drift_score) as with_drift_score,
    count(*) filter (where decision = 'undecided') as undecided
from raw.evaluations
where created_at >= %(start)s and created_at < %(end)s
group by day
order by day desc
"""

_ROWS = """
select tenant_id, record_id, decision, drift_score, reliability_score
from raw.evaluations
where created_at >= %(start)s and created_at < %(end)s
order by created_at desc
limit %(limit)s
"""

_RECOUNT = """
with receipts as (
    select batch_id, accepted
    from raw.ingest_batches
    where kind = 'evaluations' and touched_days && array(
        select generate_series(%(start)s::date, %(last)s::date, interval '1 day')::date
    )
        -- Of a month that retention dropped, a batch has only its receipt left.
        and not touched_days && array(
            select day from unnest(touched_days) as day where day < raw.dropped_before()
        )
    order by batch_id desc
    limit %(limit)s
),
rows as (
    select batch_id, count(*) as landed
    from raw.evaluations
    where batch_id in (select batch_id from receipts)
    group by batch_id
)
select
    count(*) as receipts, coalesce(sum(accepted), 0)::bigint as accepted,
    coalesce(sum(landed), 0)::bigint as landed, count(*) filter (where accepted <> coalesce(landed, 0)) as differing
from receipts left join rows using (batch_id)
"""

_FEEDBACK = """
select
    count(*) as feedbacks, min(feedback.created_at) as first, max(feedback.created_at) as last,
    count(*) filter (where by_record.record_key is null and by_evaluation.record_key is null) as waiting
from raw.feedback as feedback
left join raw.evaluation_keys as by_record on feedback.record_key = by_record.record_key
left join raw.evaluation_keys as by_evaluation
    on feedback.evaluation_id = by_evaluation.evaluation_id and feedback.tenant_id = by_evaluation.tenant_id
"""

_RECEIPTS_CHECK = dg.AssetCheckSpec(
    "receipts_match_rows",
    asset="evaluations",
    description="What was acknowledged is in the table: each receipt's count equals the rows of its batch.",
)


def landing_assets(days: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The assets of the landing.

    Args:
        days: the daily partitions of `evaluations`.
    """

    @dg.asset(
        key="evaluations",
        group_name="landing",
        owners=OWNERS,
        kinds={"python", "postgres", "greatexpectations"},
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=STALE_AFTER, warn_window=OVERDUE_AFTER),
        check_specs=[
            _RECEIPTS_CHECK,
            *(dg.AssetCheckSpec(rule.name, asset="evaluations", description=rule.description) for rule in RULES),
        ],
        description="What pipelines pushed, as landed in `raw.evaluations`; a partition is a UTC day of created_at.",
    )
    def evaluations(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        window = {"start": context.partition_time_window.start, "end": context.partition_time_window.end}
        with database.connect() as connection:
            by_day = _frame(connection, _DAYS, window)
            rows = _frame(connection, _ROWS, window | {"limit": _ROWS_JUDGED})
            recount = _recount(connection, window)
        yield dg.MaterializeResult(asset_key="evaluations", metadata=_window_metadata(by_day))
        yield recount
        yield from (_check_result(outcome) for outcome in validate(rows))

    @dg.asset(
        key="feedback",
        group_name="landing",
        owners=OWNERS,
        kinds={"python", "postgres"},
        description="What turned out later about evaluations, as landed in `raw.feedback`; the newest one counts.",
    )
    def feedback(database: dg.ResourceParam[Database]) -> dg.MaterializeResult[None]:
        with database.connect() as connection:
            counts = _frame(connection, _FEEDBACK, {}).iloc[0]
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": int(counts["feedbacks"]),
                "waiting_for_their_evaluation": int(counts["waiting"]),
                "first": _time(counts["first"]),
                "last": _time(counts["last"]),
            }
        )

    return [evaluations, feedback]


def _frame(connection: Connection, query: str, names: dict[str, object]) -> pd.DataFrame:
    cursor = connection.execute(query, names)
    columns = [column.name for column in cursor.description or ()]
    return pd.DataFrame(cursor.fetchall(), columns=columns)


def _recount(connection: Connection, window: dict[str, datetime]) -> dg.AssetCheckResult:
    names = {"start": window["start"], "last": window["end"] - pd.Timedelta(days=1), "limit": _BATCHES_RECOUNTED}
    found = {name: int(value) for name, value in _frame(connection, _RECOUNT, names).iloc[0].items()}
    return dg.AssetCheckResult(
        check_name=_RECEIPTS_CHECK.name,
        asset_key="evaluations",
        passed=found["differing"] == 0,
        metadata={str(name): value for name, value in found.items()},
    )


def _window_metadata(by_day: pd.DataFrame) -> dict[str, Any]:
    recent = _records(by_day.head(10).astype({"day": str}).to_dict("records"))
    # Dagster takes no table without a row.
    newest = {"newest_days": dg.MetadataValue.table(recent)} if recent else {}
    return newest | {
        "dagster/partition_row_count": int(by_day["evaluations"].sum()),
        "days_with_evaluations": len(by_day),
        "first_day": str(by_day["day"].min()) if len(by_day) else "none",
        "last_day": str(by_day["day"].max()) if len(by_day) else "none",
        "undecided": int(by_day["undecided"].sum()),
    }


def _records(rows: Sequence[Mapping[Any, object]]) -> list[dg.TableRecord]:
    return [dg.TableRecord({str(name): _plain(value) for name, value in row.items()}) for row in rows]


def _plain(value: object) -> str | int:
    return value if isinstance(value, int | str) else str(value)


def _time(value: object) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds") if isinstance(value, datetime) else "none"


def _check_result(outcome: Outcome) -> dg.AssetCheckResult:
    told = f"{outcome.unexpected:,} of {outcome.rows:,} evaluations, such as {', '.join(outcome.examples[:3])}"
    return dg.AssetCheckResult(
        description=None if outcome.passed else told,
        check_name=outcome.rule.name,
        asset_key="evaluations",
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "rows_judged": outcome.rows,
            "unexpected_rows": outcome.unexpected,
            "examples": ", ".join(outcome.examples) or "none",
            "expectation": outcome.rule.expectation,
        },
    )
