"""`tidemark refresh`: the asset graph brought up to date, in this process."""

from typing import Annotated

import typer
from dagster import DagsterInstance, ExecuteInProcessResult

from assets.evaluations.arrivals import arrivals_since
from orchestration.commands.shared import JsonOption, Platform, console, platform, print_json, progress_console
from orchestration.instance import open_instance
from orchestration.refresh import REFRESH_JOB, Refresh, last_refreshed_on, plan_refresh, position
from storage.errors import TidemarkError


def refresh(
    force: Annotated[bool, typer.Option("--force", help="Also when nothing has changed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Materialize what is stale: days touched by what has landed, and all that is built on them."""
    with platform() as opened, progress_console.status("Refreshing the asset graph"):
        outcome = refresh_in_process(opened, force=force)
    if as_json:
        print_json(outcome)
    elif outcome["refreshed"]:
        console.print(
            f"Refreshed {outcome['first_day']} to {outcome['last_day']}: {outcome['materializations']} assets, "
            f"{outcome['checks_passed']} checks passed, {outcome['checks_failed']} failed.",
            highlight=False,
        )
    else:
        console.print("Nothing is stale.")


def refresh_in_process(opened: Platform, *, force: bool = False) -> dict[str, object]:
    """Run the refresh job here and now if anything is stale, and tell what it did.

    Raises:
        TidemarkError: the run failed; the message names the step and the cause.
    """
    with open_instance(opened.settings, opened.database) as instance:
        with opened.database.connect() as connection:
            landed = arrivals_since(connection, position(instance))
        today = opened.clock.now().date()
        if not force and not landed.batches and last_refreshed_on(instance) == today:
            return {"refreshed": False}
        return _run(opened, instance, plan_refresh(landed, today))


def _run(opened: Platform, instance: DagsterInstance, plan: Refresh) -> dict[str, object]:
    from orchestration.definitions import build_definitions  # noqa: PLC0415 - loads every asset: seconds

    definitions = build_definitions(settings=opened.settings, database=opened.database, clock=opened.clock)
    job = definitions.get_job_def(REFRESH_JOB)
    result = job.execute_in_process(instance=instance, tags=plan.tags, raise_on_error=False)
    if not result.success:
        raise TidemarkError(f"the refresh failed: {_causes(result)}")
    checks = result.get_asset_check_evaluations()
    return {
        "refreshed": True,
        "run_id": result.run_id,
        "first_day": plan.first_day.isoformat(),
        "last_day": plan.last_day.isoformat(),
        "materializations": len({event.asset_key for event in result.get_asset_materialization_events()}),
        "checks_passed": sum(check.passed for check in checks),
        "checks_failed": sum(not check.passed for check in checks),
    }


def _causes(result: ExecuteInProcessResult) -> str:
    causes = []
    for event in result.filter_events(lambda event: event.is_step_failure):
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        causes.append(f"{event.step_key}: {error.message.strip() if error else 'no cause recorded'}")
    return "; ".join(causes) or "the run tells no cause; look at it in Dagster's page"
