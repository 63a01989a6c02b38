"""`tidemark threshold`: which bounds hold for a tenant."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Literal, TypeVar

import typer

from orchestration.commands.shared import JsonOption, console, print_json, show, show_one, shown, transaction
from sensors.alerts.thresholds import Severity, Threshold, list_thresholds, set_threshold, unset_threshold
from sensors.configuration.document import format_duration, parse_duration
from storage.errors import UsageError

_T = TypeVar("_T", int, float)

app = typer.Typer(no_args_is_help=True, help="Thresholds: from which value on an alert is raised.")

_RULE = ("clear_value", "severity", "for_n", "clear_n", "max_age", "enabled")

EventType = Annotated[str, typer.Argument(help="drift_high, reliability_low, decision_review, template_new, …")]
TenantOption = Annotated[str | None, typer.Option("--tenant", "-t", help="Whose threshold.")]
TierOption = Annotated[str | None, typer.Option("--tier", help="Of a tier of tenants, instead of one tenant.")]
TemplateOption = Annotated[str | None, typer.Option("--template", help="For this template alone.")]
VendorOption = Annotated[str | None, typer.Option(help="For this extractor alone, together with its model.")]
ModelOption = Annotated[str | None, typer.Option(help="For this extractor alone, together with its vendor.")]


@app.command("list")
def list_(tenant: TenantOption = None, tier: TierOption = None, as_json: JsonOption = False) -> None:
    """Show a tenant's thresholds, its tier's and the defaults; of an event type the first that fits holds."""
    if (tenant is None) == (tier is None):
        raise UsageError("say whose: --tenant or --tier")
    with transaction() as (_, connection):
        rows = [_row(threshold) for threshold in list_thresholds(connection, tenant, tier=tier)]
    if as_json:
        print_json(rows)
        return
    show([_brief(row) for row in rows], as_json, title=f"Thresholds of {tenant or f'tier {tier}'}")


@app.command("set")
def set_(
    event_type: EventType,
    tenant: TenantOption = None,
    tier: TierOption = None,
    value: Annotated[float | None, typer.Option(help="The bound; a value equal to it is within bounds.")] = None,
    clear_value: Annotated[
        str | None, typer.Option(help="Hysteresis: only what is within this ends an alert; none for the bound itself.")
    ] = None,
    template: TemplateOption = None,
    extractor_vendor: VendorOption = None,
    extractor_model: ModelOption = None,
    severity: Annotated[Severity | None, typer.Option(help="How much it matters.")] = None,
    for_n: Annotated[int | None, typer.Option(help="Breaches in a row that make it fire.")] = None,
    clear_n: Annotated[int | None, typer.Option(help="Evaluations in a row within bounds that resolve it.")] = None,
    window_n: Annotated[
        str | None, typer.Option(help="Judge the mean of so many newest evaluations; none: each by itself.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="Judge the mean of what is at most so much older than the newest: 24h; none.")
    ] = None,
    min_n: Annotated[
        str | None, typer.Option(help="Evaluations there must be before a mean is judged; none: --window-n.")
    ] = None,
    max_age_days: Annotated[float | None, typer.Option(help="Older data opens and resolves no alert.")] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Whether the rule is held.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Set a threshold of a tenant or a tier; what isn't given stays as it was."""
    given = (value, clear_value, severity, for_n, clear_n, window_n, window, min_n, max_age_days, enabled)
    if all(one is None for one in given):
        raise UsageError(
            "say what to set: --value, --clear-value, --severity, --for-n, --clear-n, --window-n, --window, --min-n, "
            "--max-age-days, --enable or --disable"
        )
    with transaction() as (_, connection):
        threshold = set_threshold(
            connection,
            tenant,
            event_type,
            value,
            tier=tier,
            template=template,
            extractor=_extractor(extractor_vendor, extractor_model),
            clear_value=_number(clear_value, "--clear-value", float),
            severity=severity,
            for_n=for_n,
            clear_n=clear_n,
            max_age=_age(max_age_days),
            window_n=_number(window_n, "--window-n", int),
            window_span=_time(window),
            min_n=_number(min_n, "--min-n", int),
            enabled=enabled,
        )
    if as_json:
        print_json(_row(threshold))
    else:
        show_one(_row(threshold))


@app.command()
def unset(
    event_type: EventType,
    tenant: TenantOption = None,
    tier: TierOption = None,
    template: TemplateOption = None,
    extractor_vendor: VendorOption = None,
    extractor_model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a threshold, so that the wider one holds again."""
    extractor = _extractor(extractor_vendor, extractor_model)
    with transaction() as (_, connection):
        unset_threshold(connection, tenant, event_type, template, tier=tier, extractor=extractor)
    if as_json:
        print_json({"tenant": tenant, "tier": tier, "event_type": event_type, "template": template, "unset": True})
    else:
        console.print(f"{event_type} of {tenant or f'tier {tier}'} is unset.", highlight=False)


def _extractor(vendor: str | None, model: str | None) -> tuple[str, str] | None:
    if vendor is None and model is None:
        return None
    if vendor is None or model is None:
        raise UsageError("an extractor is a vendor and a model: give --extractor-vendor and --extractor-model")
    return vendor, model


def _age(days: float | None) -> timedelta | None:
    try:
        return None if days is None else timedelta(days=days)
    except (ValueError, OverflowError):
        raise UsageError(f"--max-age-days {days:g}: give a number of days") from None


def _number(text: str | None, option: str, read: type[_T]) -> _T | Literal["none"] | None:
    if text is None:
        return None
    if text == "none":
        return "none"
    try:
        return read(text)
    except ValueError:
        raise UsageError(f"{option} {text!r}: give a number, or none") from None


def _time(text: str | None) -> timedelta | Literal["none"] | None:
    if text is None:
        return None
    return "none" if text == "none" else parse_duration(text, "--window")


def _row(threshold: Threshold) -> Mapping[str, object]:
    times = {name: getattr(threshold, name) for name in ("max_age", "window_span")}
    texts = {name: None if time is None else format_duration(time) for name, time in times.items()}
    return {"holds_for": str(threshold.scope)} | asdict(threshold) | texts


def _brief(row: Mapping[str, object]) -> Mapping[str, object]:
    """A row that fits a terminal: `holds_for` says the scope in one, `bound` the comparison, its value, and of what."""
    window = " in ".join(str(row[name]) for name in ("window_n", "window_span") if row[name] is not None)
    bound = f"{row['comparison']} {shown(row['value'])}" + (f", mean of {window}" if window else "")
    return {"holds_for": row["holds_for"], "event_type": row["event_type"], "bound": bound} | {
        name: row[name] for name in _RULE
    }
