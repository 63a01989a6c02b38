"""`tidemark retention run`: what is no longer kept of evaluations, alerts, webhooks and the audit log, dropped now."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Any

import typer

from assets.warehouse.reconciliation import reconcile
from assets.warehouse.retention import Month, Retained, count_evaluations, plan_retention, retain
from orchestration.commands.shared import JsonOption, console, platform, print_json, progress_console, show
from sensors.alerts.retention import PrunedNotifications, prune_notifications
from sensors.webhooks.retention import PrunedLog, prune_delivery_log
from storage.audit_seals import drop_released_days, released_days, verify_log
from storage.database import Connection
from storage.errors import TidemarkError

app = typer.Typer(no_args_is_help=True, help="What is no longer kept.")

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be dropped.")]
_SHOWN = 5


@app.callback()
def _group() -> None:
    """What is no longer kept."""


@app.command()
def run(dry_run: DryRunOption = False, as_json: JsonOption = False) -> None:
    """Drop evaluations older than TIDEMARK_EVALUATIONS_RETENTION_DAYS that the warehouse has whole; aggregates stay.

    Bodies of webhook events go after TIDEMARK_WEBHOOK_BODIES_RETENTION_DAYS, attempts after
    TIDEMARK_WEBHOOK_ATTEMPTS_RETENTION_DAYS, what was told of alerts that are over after
    TIDEMARK_ALERT_LOG_RETENTION_DAYS. Days of the audit log go once a seal has released them; seals stay.
    """
    with platform() as opened, opened.database.connect(autocommit=True) as connection:
        settings, now = opened.settings, opened.clock.now()
        days, today = settings.evaluations_retention_days, now.date()
        bodies_before = now - timedelta(days=settings.webhook_bodies_retention_days)
        attempts_before = now - timedelta(days=settings.webhook_attempts_retention_days)
        told_before = now - timedelta(days=settings.alert_log_retention_days)
        if dry_run:
            told = prune_notifications(connection, told_before, dry_run=True)
            log = prune_delivery_log(connection, bodies_before, attempts_before, dry_run=True)
            done = count_evaluations(connection, plan_retention(connection, days, today))
            audit_days = released_days(connection)
        else:
            with progress_console.status("Reconciling, then dropping"):
                _refuse_unless_reconciled(connection)
                _refuse_if_tampered(connection)
                done = retain(connection, days, today)
                told = prune_notifications(connection, told_before)
                log = prune_delivery_log(connection, bodies_before, attempts_before)
                audit_days = drop_released_days(connection)
    if as_json:
        print_json(_report(done, dry_run) | {"alerts": vars(told), "webhooks": vars(log), "audit_days": audit_days})
    else:
        _tell(done, dry_run)
        _tell_alerts(told, dry_run)
        _tell_log(log, dry_run)
        _tell_audit_days(audit_days, dry_run)


def _refuse_unless_reconciled(connection: Connection) -> None:
    found = reconcile(connection)
    if not found.holds:
        told = "; ".join(map(str, found.differences[:_SHOWN]))
        raise TidemarkError(f"counts differ between door and mart, so nothing is dropped. {told}")


def _refuse_if_tampered(connection: Connection) -> None:
    tampering = verify_log(connection).tampering
    if tampering:
        told = "; ".join(map(str, tampering[:_SHOWN]))
        raise TidemarkError(f"the audit log is not as it was sealed, so nothing is dropped. {told}")


def _report(done: Retained, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "keep_from": done.keep_from,
        "months": [_row(month, dry_run) for month in done.months],
        "evaluations": done.evaluations,
        "superseded_versions": done.superseded,
        "recommendation_snapshots": done.snapshots,
    }


def _row(month: Month, dry_run: bool) -> dict[str, object]:
    if month.refusal is not None:
        outcome = f"kept: {month.refusal}"
    elif month.evaluations is None:
        outcome = "kept: an older month is"
    else:
        outcome = "to be dropped" if dry_run else "dropped"
    return {"month": f"{month.month:%Y-%m}", "outcome": outcome, "evaluations": month.evaluations}


def _tell(done: Retained, dry_run: bool) -> None:
    if done.keep_from is None:
        console.print("Evaluations are kept for ever; TIDEMARK_EVALUATIONS_RETENTION_DAYS would say for how long.")
    else:
        show([_row(month, dry_run) for month in done.months], False, empty=f"Nothing is older than {done.keep_from}.")


def _tell_alerts(told: PrunedNotifications, dry_run: bool) -> None:
    if any(vars(told).values()):
        outcome = "to be dropped" if dry_run else "dropped"
        what = (
            f"{told.notifications} notifications, {told.suppressions} suppressions and {told.groups} groups {outcome}."
        )
        console.print(f"Alerts: {what}", highlight=False)


def _tell_log(log: PrunedLog, dry_run: bool) -> None:
    if any(vars(log).values()):
        outcome = "to be dropped" if dry_run else "dropped"
        told = f"{log.bodies} bodies of events, {log.attempts} attempts and {log.deliveries} deliveries {outcome}."
        console.print(f"Webhooks: {told}", highlight=False)


def _tell_audit_days(days: Sequence[date], dry_run: bool) -> None:
    if days:
        outcome = "to be dropped" if dry_run else "dropped"
        console.print(f"Audit log from {days[0]} to {days[-1]}: {len(days)} days {outcome}.", highlight=False)
