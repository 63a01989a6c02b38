"""The alert sensor: scans what has landed every ten seconds and asks for the marts to be refreshed when alerts changed.

Belongs here: Dagster's face of `scan`. Does not belong here: rules and states. No Dagster cursor decides what is
scanned: the position is kept with the alerts, so a cursor that is lost or rewound duplicates nothing.
"""

import time
from collections.abc import Callable, Mapping

import dagster as dg
from dagster import DefaultSensorStatus

from sensors.alerts.scan import ScanResult, scan
from sensors.alerts.told import kept_back
from storage.clock import Clock
from storage.database import Connection, Database

INTERVAL_SECONDS = 10
TICK_SECONDS = 35  # a tick is cut at 60, and one more scan may start just before this
ALERTS = dg.AssetKey("alerts")

_WAITING = {
    "silence": "silenced",
    "inhibition": "inhibited",
    "window": "in a suppression window",
    "group": "waiting in groups",
}
_NEWEST_EVENT = "select coalesce(max(seq), 0) from alerting.events where alert_id is not null"
_MARTS_STAND = "select (to_regclass('marts.recent_alerts') is not null)::integer"
_OPEN_ALERTS = "select count(*) from alerting.alerts where status = 'firing'"


def alerts_asset() -> dg.AssetSpec:
    """The alert tables as an external asset: the sensor writes them, no run does."""
    return dg.AssetSpec(
        ALERTS,
        group_name="alerting",
        owners=["team:tidemark"],
        kinds={"postgres"},
        description="Alerts of all tenants (alerting.alerts), written by dispatchers and the sensor `alerts` from new "
        "evaluations and findings, together with the events that webhooks deliver.",
    )


def alert_sensor(refresh_job: str) -> dg.SensorDefinition:
    """The sensor `alerts`.

    Args:
        refresh_job: name of the job that refreshes the marts which show alerts; asked for only when an alert changed.
    """

    @dg.sensor(
        name="alerts",
        job_name=refresh_job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Holds new evaluations and findings against thresholds; writes alerts, events and deliveries.",
    )
    def alerts(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]
    ) -> dg.SensorResult | dg.SkipReason:
        with database.connect(autocommit=True) as connection:
            results = _scan_all(connection, clock, time.monotonic)
            newest = _number(connection, _NEWEST_EVENT)
            firing = _number(connection, _OPEN_ALERTS)
            waiting = kept_back(connection)
            marts_stand = _number(connection, _MARTS_STAND)
        # The newest event's number and not this tick's transitions: a tick that died after its commit, a scan from the
        # command line and an alert resolved by hand are caught up with; the run key makes a repeated request one run.
        if newest <= int(context.cursor or 0):
            return dg.SkipReason(_message(results, firing, waiting))
        return dg.SensorResult(
            # Before the first refresh there is nothing that a part of it could be built on; it will show them itself.
            run_requests=[dg.RunRequest(run_key=f"alerts-{newest}")] if marts_stand else [],
            asset_events=[_materialization(results, newest, firing, waiting)],
            cursor=str(newest),
        )

    return alerts


def _scan_all(connection: Connection, clock: Clock, elapsed: Callable[[], float]) -> list[ScanResult]:
    end = elapsed() + TICK_SECONDS
    results = [scan(connection, clock.now())]
    while results[-1].more and elapsed() < end:
        results.append(scan(connection, clock.now()))
    return results


def _message(results: list[ScanResult], firing: int, waiting: Mapping[str, int]) -> str:
    batches = sum(result.batches for result in results)
    fired, resolved = sum(result.firing for result in results), sum(result.resolved for result in results)
    deliveries = sum(result.deliveries for result in results)
    parts = [f"{batches} new batches" if batches else "no new batches"]
    if fired or resolved:
        parts.append(f"{fired} alerts fired, {resolved} resolved, {deliveries} deliveries queued")
    if restated := sum(result.restated for result in results):
        parts.append(f"{restated} amended or retracted by late data")
    parts.append(f"{firing} firing now")
    if waiting:
        parts.append(
            "not told: " + ", ".join(f"{waiting[why]} {told}" for why, told in _WAITING.items() if why in waiting)
        )
    if results[-1].more:
        parts.append("more batches wait for the next tick")
    if results[-1].held_back:
        parts.append(f"{results[-1].held_back} batches wait for an older transaction that is still open")
    return "; ".join(parts)


def _materialization(
    results: list[ScanResult], newest: int, firing: int, waiting: Mapping[str, int]
) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        ALERTS,
        description=_message(results, firing, waiting),
        metadata={
            "fired": sum(result.firing for result in results),
            "resolved": sum(result.resolved for result in results),
            "restated": sum(result.restated for result in results),
            "firing_now": firing,
            "not_told": sum(waiting.values()),
            "batches_read": sum(result.batches for result in results),
            "deliveries_queued": sum(result.deliveries for result in results),
            "newest_event_seq": newest,
        },
    )


def _number(connection: Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0
