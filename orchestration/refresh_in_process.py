"""Dagster runs in this process: for the command line and the demo, recorded like any other run.

Belongs here: running a job now and saying what it did. Does not belong here: when a job should run.
"""

from typing import Any

import dagster as dg

from assets.evaluations.arrivals import arrivals_since
from assets.evaluations.manifests import declared_since_last_build, overdue_since_last_build
from assets.selection.decided import decided_since_learning
from assets.warehouse.alert_marts import alert_marts_are_behind
from assets.warehouse.build import FULL_REFRESH_TAG
from orchestration.definitions import build_definitions
from orchestration.instance import open_instance
from orchestration.jobs import ALERT_MARTS_JOB
from orchestration.platform import Platform
from orchestration.refresh import FORECAST_JOB, NIGHTLY_JOB, REFRESH_JOB, last_refreshed_on, plan_refresh, position
from orchestration.under_way import IN_PROCESS_TAG, only_refresh
from storage.errors import TidemarkError

# What a run logs is kept in Dagster's storage and shown in its page; on a terminal it would bury the outcome.
_QUIET_CONSOLE = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

_WARN = dg.AssetCheckSeverity.WARN


def refresh_in_process(
    opened: Platform, *, force: bool = False, full: bool = False, nightly: bool = False
) -> dict[str, Any]:
    """Run the refresh job here and now if anything is stale, and tell what it did.

    If nothing but alerts and endpoints stands otherwise than it is shown, their marts alone are built, of no day.

    Args:
        opened: the deployment.
        force: also when nothing is stale.
        full: make every model anew, whether anything is stale or not; with all that the nightly run does.
        nightly: with all checks and what else the nightly run does.

    Raises:
        TidemarkError: the run failed; the message names the step and the cause.
    """
    with open_instance(opened.settings, opened.database) as instance, only_refresh(instance, opened.database):
        with opened.database.connect() as connection:
            landed = arrivals_since(connection, position(instance))
            behind = alert_marts_are_behind(connection)
            decided = decided_since_learning(connection)
            declared = declared_since_last_build(connection) or overdue_since_last_build(connection) is not None
        today = opened.clock.now().date()
        is_stale = landed.batches or declared or decided or last_refreshed_on(instance) != today
        if not (is_stale or force or full):
            if not behind:
                return {"refreshed": False}
            done = _run(opened, instance, ALERT_MARTS_JOB.name, {})
            return {"refreshed": True, "anew": False, "first_day": None, "last_day": None} | done
        plan = plan_refresh(landed, today)
        tags = plan.tags | ({FULL_REFRESH_TAG: "true"} if full else {})
        done = _run(opened, instance, NIGHTLY_JOB if nightly or full else REFRESH_JOB, tags)
        if opened.settings.forecast_executor != "in_process":
            done = _both(done, _run(opened, instance, FORECAST_JOB, {}))
    return {"refreshed": True, "anew": full, "first_day": str(plan.first_day), "last_day": str(plan.last_day)} | done


def refresh_alert_marts(opened: Platform) -> dict[str, Any]:
    """Bring the marts that show alerts up to date.

    Raises:
        TidemarkError: the run failed; the message names the step and the cause.
    """
    with open_instance(opened.settings, opened.database) as instance, only_refresh(instance, opened.database):
        return _run(opened, instance, ALERT_MARTS_JOB.name, {})


def _run(opened: Platform, instance: dg.DagsterInstance, job_name: str, tags: dict[str, str]) -> dict[str, Any]:
    definitions = build_definitions(settings=opened.settings, database=opened.database, clock=opened.clock)
    result = definitions.resolve_job_def(job_name).execute_in_process(
        instance=instance, tags=tags | {IN_PROCESS_TAG: "true"}, run_config=_QUIET_CONSOLE, raise_on_error=False
    )
    if not result.success:
        raise TidemarkError(f"the run of {job_name} failed: {_causes(result)}")
    checks = result.get_asset_check_evaluations()
    return {
        "run_id": result.run_id,
        "assets": len({event.asset_key for event in result.get_asset_materialization_events()}),
        "checks_passed": sum(check.passed for check in checks),
        "checks_failed": sum(not check.passed for check in checks),
        "failed": [_named(check) for check in checks if not check.passed],
        # What a person should look at; an error is for somebody to mend.
        "warnings": [_named(check) for check in checks if not check.passed and check.severity is _WARN],
    }


def _both(refreshed: dict[str, Any], forecast: dict[str, Any]) -> dict[str, Any]:
    """What two runs did, under the first one's name."""
    added = ("assets", "checks_passed", "checks_failed", "failed", "warnings")
    return refreshed | {name: refreshed[name] + forecast[name] for name in added}


def _named(check: dg.AssetCheckEvaluation) -> str:
    told = f": {check.description}" if check.description else ""
    return f"{check.asset_key.to_user_string()}: {check.check_name} ({check.severity.value.lower()}){told}"


def _causes(result: dg.ExecuteInProcessResult) -> str:
    causes = []
    for event in result.filter_events(lambda event: event.is_step_failure):
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        causes.append(f"{event.step_key}: {error.message.strip() if error else 'no cause recorded'}")
    return "; ".join(causes) or "the run tells no cause; look at it in Dagster's page"
