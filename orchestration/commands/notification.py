"""`tidemark alert silence|inhibition|policy`: who is told of alerts, and when."""

import getpass
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

import typer

from orchestration.commands.shared import JsonOption, TenantOption, print_json, show, show_one, transaction
from sensors.alerts.inhibitions import add_inhibition, inhibition_row, list_inhibitions, remove_inhibition
from sensors.alerts.matchers import Matcher, parse_matcher, read_matchers
from sensors.alerts.policies import get_policy, policy_row, set_policy, unset_policy
from sensors.alerts.policy import Inhibition, Policy
from sensors.alerts.silences import create_silence, end_silence, list_silences, list_suppressed
from sensors.configuration.document import parse_duration
from storage.errors import UsageError

silence = typer.Typer(no_args_is_help=True, help="Times during which matching alerts notify nobody.")
inhibition = typer.Typer(no_args_is_help=True, help="Alerts that keep others from being told while they fire.")
policy = typer.Typer(no_args_is_help=True, help="How a tenant is told: groups, repeats, a suppression window.")

Matchers = Annotated[
    list[str], typer.Argument(help="label=value, label!=value, label=~pattern or label!~pattern; all must fit.")
]
SilenceArgument = Annotated[UUID, typer.Argument(help="The silence's identifier, from `alert silence list`.")]
_OFF = "off"


@silence.command("add")
def add_silence(
    matchers: Matchers,
    tenant: TenantOption,
    lasting: Annotated[str, typer.Option("--for", help="How long, such as 2h or 1d12h.")],
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    by: Annotated[str | None, typer.Option(help="Its author; you, if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Silence alerts from now on; what still fires when it ends is told then."""
    with transaction() as (opened, connection):
        now = opened.clock.now()
        row = create_silence(
            connection,
            tenant,
            _parsed(matchers),
            ends_at=now + parse_duration(lasting, "--for"),
            author=by or getpass.getuser(),
            comment=comment,
            now=now,
        )
    _print(_silence_row(row), as_json)


@silence.command("list")
def list_silences_(
    tenant: TenantOption,
    state: Annotated[Literal["pending", "active", "ended"] | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show silences and how many notifications each has kept back."""
    with transaction() as (opened, connection):
        rows = list_silences(connection, tenant, now=opened.clock.now(), state=state, limit=limit)
    show([_silence_row(row) for row in rows], as_json, title=f"Silences of {tenant}", empty="No silences.")


@silence.command()
def suppressed(
    silence_id: SilenceArgument,
    tenant: TenantOption,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show what a silence kept back, and what became of it."""
    with transaction() as (_, connection):
        rows = list_suppressed(connection, tenant, silence_id, limit=limit)
    show(rows, as_json, empty="Nothing was kept back.")


@silence.command()
def end(silence_id: SilenceArgument, tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Let a silence hold no longer."""
    with transaction() as (opened, connection):
        end_silence(connection, tenant, silence_id, now=opened.clock.now())
    _print({"silence_id": silence_id, "ended": True}, as_json)


@inhibition.command("add")
def add_inhibition_(
    tenant: TenantOption,
    source: Annotated[list[str], typer.Option(help="Matcher of the alerts that keep others back; may be repeated.")],
    target: Annotated[list[str], typer.Option(help="Matcher of the alerts that are kept back; may be repeated.")],
    equal: Annotated[
        list[str] | None, typer.Option(help="Label that must be the same on both; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Keep alerts from being told while another one fires."""
    rule = Inhibition(tuple(_parsed(source)), tuple(_parsed(target)), tuple(equal or ()))
    with transaction() as (_, connection):
        inhibition_id = add_inhibition(connection, tenant, rule)
    _print({"inhibition_id": inhibition_id, **inhibition_row(rule)}, as_json)


@inhibition.command("list")
def list_inhibitions_(tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Show a tenant's inhibitions."""
    with transaction() as (_, connection):
        rules = list_inhibitions(connection, tenant)
    rows = [{"inhibition_id": rule_id, **inhibition_row(rule)} for rule_id, rule in rules]
    show(rows, as_json, title=f"Inhibitions of {tenant}", empty="No inhibitions.")


@inhibition.command()
def remove(
    inhibition_id: Annotated[UUID, typer.Argument(help="From `alert inhibition list`.")],
    tenant: TenantOption,
    as_json: JsonOption = False,
) -> None:
    """Remove an inhibition; what it keeps back is told if it still fires."""
    with transaction() as (_, connection):
        remove_inhibition(connection, tenant, inhibition_id)
    _print({"inhibition_id": inhibition_id, "removed": True}, as_json)


@policy.command("show")
def show_policy(tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Show how a tenant is told, in the words that `set` takes; with --json in seconds."""
    with transaction() as (_, connection):
        found = get_policy(connection, tenant)
    _print_policy(found, as_json)


@policy.command("set")
def set_policy_(
    tenant: TenantOption,
    group_by: Annotated[
        str | None, typer.Option(help="Labels, comma-separated, besides event_type; empty for none; off: no groups.")
    ] = None,
    group_wait: Annotated[str | None, typer.Option(help="How long a new group waits for more.")] = None,
    group_interval: Annotated[str | None, typer.Option(help="How long until a group is told what is new.")] = None,
    repeat_interval: Annotated[str | None, typer.Option(help="When a firing is told again; off: never.")] = None,
    suppression_window: Annotated[
        str | None, typer.Option(help="How long a subject's next firing is kept back; off: not at all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change how a tenant is told; what isn't given stays as it was."""
    times = {
        "group_wait": group_wait,
        "group_interval": group_interval,
        "repeat_interval": repeat_interval,
        "suppression_window": suppression_window,
    }
    if group_by is None and all(given is None for given in times.values()):
        raise UsageError(
            "say what to set: --group-by, --group-wait, --group-interval, --repeat-interval or --suppression-window"
        )
    with transaction() as (_, connection):
        changed: Policy = get_policy(connection, tenant)
        if group_by is not None:
            labels = tuple(label.strip() for label in group_by.split(",") if label.strip())
            changed = replace(changed, group_by=None if group_by == _OFF else labels)
        for name, given in times.items():
            if given is not None:
                changed = replace(changed, **{name: _duration(name, given)})  # type: ignore[arg-type]
        set_policy(connection, tenant, changed)
    _print_policy(changed, as_json)


def _print_policy(found: Policy, as_json: bool) -> None:
    if as_json:
        print_json(policy_row(found))
        return
    words = {name: _OFF if value is None else value for name, value in asdict(found).items()}
    show_one(words | ({"group_by": "all of an event type"} if found.group_by == () else {}))


@policy.command()
def unset(tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Tell a tenant every transition at once, alone and once, as without a policy."""
    with transaction() as (_, connection):
        changed = unset_policy(connection, tenant)
    _print({"unset": changed}, as_json)


def _duration(name: str, given: str) -> timedelta | None:
    is_optional = not name.startswith("group")
    return None if given == _OFF and is_optional else parse_duration(given, f"--{name.replace('_', '-')}")


def _parsed(matchers: list[str]) -> list[Matcher]:
    return [parse_matcher(text) for text in matchers]


def _silence_row(row: Mapping[str, object]) -> Mapping[str, object]:
    return {**row, "matchers": [str(matcher) for matcher in read_matchers(row["matchers"])]}  # type: ignore[arg-type]


def _print(row: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        show_one(row)
