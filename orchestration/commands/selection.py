"""`tidemark selection`: what people decide about extractors, and what follows from it at once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer

from assets.selection.policies import (
    Extractor,
    Objective,
    Policy,
    change_policy,
    find_extractor,
    read_policy_list,
    read_pooling,
    read_rulings,
    rule,
    set_pooling,
)
from orchestration.commands.shared import JsonOption, TenantOption, console, print_json, show, transaction
from storage.database import Connection
from storage.errors import UsageError
from storage.tenants import require_tenant

app = typer.Typer(no_args_is_help=True, help="Selection: incumbents, overrides, objectives; retired extractors.")

TemplateOption = Annotated[str, typer.Option("--template", help="Whose extractors are chosen from.")]
ExtractorArgument = Annotated[str, typer.Argument(metavar="VENDOR/MODEL", help="Who is meant.")]
ExtractorOption = Annotated[str | None, typer.Option(metavar="VENDOR/MODEL")]
_POOLS = "{} learns together with the other tenants that agree to it."
_UNSET = {
    "objective": Policy.objective,
    "incumbent": None,
    "override": None,
    "floor": Policy.exploration_floor,
    "tolerance": Policy.tolerance,
}


@app.command("list")
def list_(tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Show what was decided about a tenant's templates and extractors; for all others the defaults hold."""
    with _of_tenant(tenant) as connection:
        policies = [_named(name, policy) for name, policy in read_policy_list(connection, tenant)]
        rulings = [
            {
                "extractor": str(ruling.extractor),
                "predecessor": str(ruling.predecessor) if ruling.predecessor else None,
                "is_retired": ruling.is_retired,
            }
            for ruling in read_rulings(connection, tenant).get(tenant, [])
            if ruling.is_retired or ruling.predecessor
        ]
        pools = read_pooling(connection, tenant)
    if as_json:
        print_json({"tenant": tenant, "pools": pools, "templates": policies, "extractors": rulings})
        return
    show(policies, as_json=False, title=f"Templates of {tenant}", empty="no template has anything but the defaults")
    if rulings:
        show(rulings, as_json=False, title=f"Extractors of {tenant}")
    if pools:
        console.print(_POOLS.format(tenant), markup=False, highlight=False)


@app.command("set")
def set_(
    tenant: TenantOption,
    template: TemplateOption,
    incumbent: ExtractorOption = None,
    override: ExtractorOption = None,
    reason: Annotated[str | None, typer.Option(help="Why there is an override.")] = None,
    objective: Annotated[
        Objective | None, typer.Option(help="What is to be high: success (rate) or fields (accuracy).")
    ] = None,
    floor: Annotated[float | None, typer.Option(help="The part of decisions that all extractors share evenly.")] = None,
    tolerance: Annotated[float | None, typer.Option(help="A difference that is not worth a change.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Decide about a template; what isn't given stays.

    The recommendation changes at once; another objective is learnt by the next refresh.
    """
    if reason is not None and override is None:
        raise UsageError("--reason belongs to --override")
    given = {
        "incumbent": incumbent,
        "override": override,
        "override_reason": reason,
        "objective": objective,
        "exploration_floor": floor,
        "tolerance": tolerance,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise UsageError("say what to set: --incumbent, --override, --objective, --floor or --tolerance")
    _change(tenant, template, changes, as_json)


@app.command()
def unset(
    tenant: TenantOption,
    template: TemplateOption,
    what: Annotated[str, typer.Argument(help="objective, incumbent, override, floor or tolerance.")],
    as_json: JsonOption = False,
) -> None:
    """Take a decision about a template back."""
    if what not in _UNSET:
        raise UsageError(f"{what!r}: name one of {', '.join(_UNSET)}")
    name = "exploration_floor" if what == "floor" else what
    _change(tenant, template, {name: _UNSET[what]}, as_json)


@app.command()
def retire(extractor: ExtractorArgument, tenant: TenantOption) -> None:
    """Never choose an extractor any more, on none of the tenant's templates."""
    with _of_tenant(tenant) as connection:
        rule(connection, tenant, find_extractor(connection, tenant, extractor), is_retired=True)
        _publish(connection, tenant)
    console.print(f"{extractor} is retired.", markup=False, highlight=False)


@app.command()
def restore(extractor: ExtractorArgument, tenant: TenantOption) -> None:
    """Choose a retired extractor again."""
    with _of_tenant(tenant) as connection:
        rule(connection, tenant, find_extractor(connection, tenant, extractor), is_retired=False)
        _publish(connection, tenant)
    console.print(f"{extractor} may be chosen again.", markup=False, highlight=False)


@app.command()
def succeed(
    extractor: ExtractorArgument,
    tenant: TenantOption,
    predecessor: Annotated[
        str,
        typer.Option(metavar="VENDOR/MODEL", help="The version before it, of the same vendor; empty takes it back."),
    ],
) -> None:
    """Say of which model an extractor is the new version: from the next refresh on it starts from that."""
    with _of_tenant(tenant) as connection:
        named = find_extractor(connection, tenant, extractor)
        after = rule(connection, tenant, named, predecessor_model=_model_of(named, predecessor))
    told = f"comes after {after.predecessor}" if after.predecessor else "comes after none"
    console.print(f"{extractor} {told}.", markup=False, highlight=False)


@app.command()
def pool(
    tenant: TenantOption,
    pools: Annotated[bool, typer.Option("--on/--off", help="Whether it takes part.")],
) -> None:
    """Learn priors together with the other tenants that agree to it: none does unless told."""
    with _of_tenant(tenant) as connection:
        set_pooling(connection, tenant, pools=pools)
    told = _POOLS if pools else "{} keeps to itself what it learns."
    console.print(told.format(tenant), markup=False, highlight=False)


@contextmanager
def _of_tenant(tenant: str) -> Iterator[Connection]:
    with transaction() as (_, connection):
        require_tenant(connection, tenant)
        yield connection


def _change(tenant: str, template: str, changes: Mapping[str, object], as_json: bool) -> None:
    with _of_tenant(tenant) as connection:
        named = {
            name: find_extractor(connection, tenant, value)
            for name in ("incumbent", "override")
            if isinstance(value := changes.get(name), str)
        }
        policy = change_policy(connection, tenant, template, {**changes, **named})
        _publish(connection, tenant)
    show([_named(template, policy)], as_json)


def _publish(connection: Connection, tenant: str) -> None:
    # numpy only where something is decided: the command line has this module's names at hand whatever it is asked.
    from assets.selection.publishing import publish

    publish(connection, tenant)


def _model_of(heir: Extractor, predecessor: str) -> str:
    """The model of a predecessor that is named as vendor/model; empty for none."""
    model = predecessor.removeprefix(f"{heir.vendor}/")
    if predecessor and model == predecessor:
        raise UsageError(f"--predecessor {predecessor}: name a model of the same vendor, {heir.vendor}/MODEL")
    return model


def _named(template: str, policy: Policy) -> dict[str, object]:
    return {"template": template, **_row(policy)}


def _row(policy: Policy) -> dict[str, object]:
    return {
        "objective": policy.objective,
        "incumbent": str(policy.incumbent) if policy.incumbent else None,
        "override": str(policy.override) if policy.override else None,
        "override_reason": policy.override_reason,
        "exploration_floor": policy.exploration_floor,
        "tolerance": policy.tolerance,
    }
