"""`tidemark threshold`: which bounds hold for a tenant."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from orchestration.commands.shared import JsonOption, TenantOption, console, print_json, show, transaction
from sensors.alerts.thresholds import Severity, Threshold, list_thresholds, set_threshold, unset_threshold
from storage.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Thresholds: from which value on an alert is raised.")

EventType = Annotated[str, typer.Argument(help="drift_high, reliability_low, decision_review, template_new, …")]
TemplateOption = Annotated[str | None, typer.Option("--template", help="For this template alone.")]


@app.command("list")
def list_(tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Show a tenant's thresholds and the defaults; of an event type the first that fits a template holds."""
    with transaction() as (_, connection):
        rows = [_row(threshold) for threshold in list_thresholds(connection, tenant)]
    show(rows, as_json, title=f"Thresholds of {tenant}")


@app.command("set")
def set_(
    event_type: EventType,
    tenant: TenantOption,
    value: Annotated[float | None, typer.Option(help="The bound; a value equal to it is within bounds.")] = None,
    template: TemplateOption = None,
    severity: Annotated[Severity | None, typer.Option(help="How much it matters.")] = None,
    clear_n: Annotated[int | None, typer.Option(help="Evaluations in a row within bounds that resolve it.")] = None,
    max_age_days: Annotated[float | None, typer.Option(help="Older data opens and resolves no alert.")] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Whether the rule is held.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Set a threshold of a tenant; what isn't given stays as it was."""
    if all(given is None for given in (value, severity, clear_n, max_age_days, enabled)):
        raise UsageError("say what to set: --value, --severity, --clear-n, --max-age-days, --enable or --disable")
    with transaction() as (_, connection):
        threshold = set_threshold(
            connection,
            tenant,
            event_type,
            value,
            template=template,
            severity=severity,
            clear_n=clear_n,
            max_age=None if max_age_days is None else timedelta(days=max_age_days),
            enabled=enabled,
        )
    if as_json:
        print_json(_row(threshold))
    else:
        show([_row(threshold)], as_json)


@app.command()
def unset(
    event_type: EventType, tenant: TenantOption, template: TemplateOption = None, as_json: JsonOption = False
) -> None:
    """Remove a tenant's threshold, so that the wider one holds again."""
    with transaction() as (_, connection):
        unset_threshold(connection, tenant, event_type, template)
    if as_json:
        print_json({"tenant": tenant, "event_type": event_type, "template": template, "unset": True})
    else:
        console.print(f"{event_type} of {tenant} is unset.", highlight=False)


def _row(threshold: Threshold) -> Mapping[str, object]:
    row = {"holds_for": "default" if threshold.tenant_id is None else threshold.template or "all templates"}
    return row | asdict(threshold) | {"max_age": str(threshold.max_age)}
