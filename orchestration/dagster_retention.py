"""Retention of Dagster's own storage: finished runs, their events and logs go after a month; what the page shows stays.

Dagster forgets nothing by itself but ticks (`retention` in its configuration). Runs go through its own interface; for
events without a run and for results of checks it has none, so those are deleted from its tables.

Belongs here: what of Dagster's is deleted. Does not belong here: retention of evaluations (`assets.warehouse`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from assets.cadence import NIGHTLY
from orchestration.partitions import DAYS
from orchestration.refresh import newest_refresh
from storage.clock import Clock
from storage.database import Connection, Database, connect
from storage.settings import Settings

_FINISHED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
_PARTITIONED = (dg.AssetKey("evaluations"),)

# A check's newest result, and the newest that is one: it may have been planned again by a run that never came to it.
_NEWEST_RESULTS = """
select id, run_id
from (
    select
        id, run_id, execution_status, max(id) over check_of_asset as newest,
        max(id) filter (where execution_status <> 'PLANNED') over check_of_asset as newest_done
    from asset_check_executions
    window check_of_asset as (partition by asset_key, check_name)
) as executions
where id in (newest, newest_done)
"""
_RUNS_OF_RESULTS = f"select distinct run_id from ({_NEWEST_RESULTS}) as newest_results"  # noqa: S608 - a constant
_DROP_RESULTS = f"""
delete from asset_check_executions
where create_timestamp < %(before)s at time zone 'UTC'
and id not in (select id from ({_NEWEST_RESULTS}) as newest_results)
"""  # noqa: S608 - a constant
_DROP_RUNLESS = """
with gone as (
    delete from event_logs
    where
        run_id = '' and timestamp < %(before)s at time zone 'UTC'
        and id not in (
            select max(id) from event_logs where run_id = '' group by asset_key, dagster_event_type
        )
    returning id
),
tags as (
    delete from asset_event_tags where event_id in (select id from gone)
)
select count(*) from gone
"""


@dataclass(frozen=True)
class Pruned:
    """How much of Dagster's storage was deleted."""

    runs: int
    runs_kept: int
    runless_events: int
    check_results: int


def prune(instance: dg.DagsterInstance, database: Database, before: datetime) -> Pruned:
    """Delete finished runs, events and results of checks from before a time, and keep what still says how things stand.

    Kept are the runs that materialized an asset last or ran a check last, and the refresh that tells where to go on.

    Args:
        instance: whose storage is in PostgreSQL.
        database: where that storage is.
        before: what ended earlier goes.
    """
    with connect(database.dagster) as connection:
        kept = {*_runs_of_assets(instance), *_runs_of_checks(connection), *_position(instance)}
    for key in _PARTITIONED:
        # Which days are materialized is read from events only until it is noted beside the asset.
        instance.get_status_by_partition(key, [], DAYS)
    old = instance.get_run_ids(RunsFilter(statuses=_FINISHED, updated_before=before))
    gone = [run_id for run_id in old if run_id not in kept]
    for run_id in gone:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    with connect(database.dagster) as connection:
        results = connection.execute(_DROP_RESULTS.encode(), {"before": before}).rowcount
        [[runless]] = connection.execute(_DROP_RUNLESS, {"before": before}).fetchall()
    return Pruned(len(gone), len(old) - len(gone), runless, results)


def _runs_of_assets(instance: dg.DagsterInstance) -> Iterator[str]:
    for record in instance.get_asset_records():
        entry = record.asset_entry
        events = (entry.last_materialization, entry.last_observation)
        yield from (event.run_id for event in events if event is not None)


def _runs_of_checks(connection: Connection) -> Iterator[str]:
    return (run_id for (run_id,) in connection.execute(_RUNS_OF_RESULTS.encode()).fetchall())


def _position(instance: dg.DagsterInstance) -> Iterator[str]:
    run = newest_refresh(instance)
    return iter([] if run is None else [run.run_id])


@dg.asset(
    group_name="maintenance",
    owners=["team:tidemark"],
    kinds={"dagster", "postgres"},
    tags={NIGHTLY: ""},
    description="Deletes Dagster's finished runs and events older than TIDEMARK_DAGSTER_RETENTION_DAYS. What "
    "materialized an asset last, each check's newest result and the refresh's position stay.",
)
def dagster_retention(
    context: dg.AssetExecutionContext,
    database: dg.ResourceParam[Database],
    settings: dg.ResourceParam[Settings],
    clock: dg.ResourceParam[Clock],
) -> dg.MaterializeResult[None]:
    """Keep Dagster's storage at the size of a month."""
    from dagster_postgres import PostgresEventLogStorage

    if not isinstance(context.instance.event_log_storage, PostgresEventLogStorage):
        # A plain `dagster dev`, whose storage is a folder that goes when it ends.
        return dg.MaterializeResult(metadata={"runs_deleted": 0})
    pruned = prune(context.instance, database, clock.now() - timedelta(days=settings.dagster_retention_days))
    return dg.MaterializeResult(
        metadata={
            "runs_deleted": pruned.runs,
            "old_runs_kept": pruned.runs_kept,
            "runless_events_deleted": pruned.runless_events,
            "check_results_deleted": pruned.check_results,
        }
    )
