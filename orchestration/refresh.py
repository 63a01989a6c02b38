"""When the asset graph is refreshed: which days, up to which horizon, and by whom.

The position is the horizon of the newest refresh that succeeded, kept as a tag of its run. A run that failed leaves the
position where it was, so its days are asked for again; a lost Dagster storage means one refresh of everything.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg
from dagster import DagsterRunStatus, RunRecord, RunsFilter
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)

from assets.evaluations.arrivals import Arrivals
from storage.migrate import head_revision

REFRESH_JOB = "refresh"
# The same and more: what it has brought up to date needs no refresh.
NIGHTLY_JOB = "nightly"
# Forecasts alone: where they run apart from the refresh, it asks for them.
FORECAST_JOB = "forecast"
HORIZON_TAG = "tidemark/horizon"
SCHEMA_TAG = "tidemark/schema"
_RUNS_LOOKED_AT = 20


@dataclass(frozen=True)
class Refresh:
    """One refresh to be run: its first and last day, and the horizon it brings the marts to."""

    first_day: date
    last_day: date
    horizon: int

    @property
    def tags(self) -> dict[str, str]:
        """The run's tags: the range of partitions, the horizon, and the revision of the schema."""
        return {
            ASSET_PARTITION_RANGE_START_TAG: self.first_day.isoformat(),
            ASSET_PARTITION_RANGE_END_TAG: self.last_day.isoformat(),
            HORIZON_TAG: str(self.horizon),
            SCHEMA_TAG: head_revision(),
        }


def plan_refresh(arrivals: Arrivals, today: date) -> Refresh:
    """The one run that covers all that has arrived, late days included; yesterday alone if no day was touched."""
    days = arrivals.days or (today - timedelta(days=1),)
    # A record may be five minutes ahead of the clock, which at midnight is a day without a partition yet.
    return Refresh(min(days[0], today), min(days[-1], today), arrivals.horizon)


def newest_refresh(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """The refresh that succeeded with the highest horizon; None if none did."""
    runs = (record.dagster_run for record in _done(instance, _RUNS_LOOKED_AT))
    return max((run for run in runs if HORIZON_TAG in run.tags), key=_horizon, default=None)


def position(instance: dg.DagsterInstance) -> int:
    """The horizon up to which the marts are known to be refreshed; 0 if never."""
    newest = newest_refresh(instance)
    return 0 if newest is None else _horizon(newest)


def _horizon(run: dg.DagsterRun) -> int:
    return int(run.tags[HORIZON_TAG])


def is_upgraded_since(instance: dg.DagsterInstance) -> bool:
    """Whether there were refreshes, none of them with the schema as it is now: a migration drops what is computed."""
    tags = [record.dagster_run.tags for record in _done(instance, _RUNS_LOOKED_AT)]
    return bool(tags) and all(of_run.get(SCHEMA_TAG) != head_revision() for of_run in tags)


def last_refreshed_on(instance: dg.DagsterInstance) -> date | None:
    """The UTC day on which a refresh last succeeded."""
    return max((record.create_timestamp.date() for record in _done(instance, 1)), default=None)


def _done(instance: dg.DagsterInstance, limit: int) -> list[RunRecord]:
    return [
        record
        for job_name in (REFRESH_JOB, NIGHTLY_JOB)
        for record in instance.get_run_records(
            RunsFilter(job_name=job_name, statuses=[DagsterRunStatus.SUCCESS]), limit=limit
        )
    ]
