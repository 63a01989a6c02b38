"""`tidemark forecast`: which forecaster serves a template and why, rollbacks, and the budget of false alarms."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from assets.forecasts.budgets import read_budget, set_budget
from assets.forecasts.methods import METHODS, Method
from assets.forecasts.rollbacks import (
    FIRST_VERSION,
    list_champions,
    list_promotions,
    list_versions,
    read_version,
    roll_back,
)
from assets.forecasts.rollbacks import unpin as unpin_version
from orchestration.commands.shared import JsonOption, TenantOption, console, print_json, show, transaction
from storage.database import Connection
from storage.errors import UsageError
from storage.tenants import require_tenant

app = typer.Typer(no_args_is_help=True, help="Forecasts: versions, rollbacks, and how often a template may alarm.")

TemplateOption = Annotated[str, typer.Option("--template", help="Whose forecasts.")]
MeasureOption = Annotated[Literal["drift", "reliability"], typer.Option(help="Which of a template's two scores.")]
LimitOption = Annotated[int, typer.Option(min=1, help="So many at most.")]


@app.command("list")
def list_(tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Show which version serves each of a tenant's templates, since when and why."""
    with _of_tenant(tenant) as connection:
        rows = list_champions(connection, tenant)
    show(rows, as_json, title=f"Forecasters of {tenant}", empty=f"none is registered yet: {FIRST_VERSION}")


@app.command("show")
def show_(
    tenant: TenantOption,
    template: TemplateOption,
    measure: MeasureOption = "drift",
    version: Annotated[int | None, typer.Option(help="One version as JSON, with what was fitted.")] = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Show a template's versions, the newest first: each fitted on the days before a Monday, and never changed."""
    with _of_tenant(tenant) as connection:
        if version is not None:
            print_json(read_version(connection, tenant, template, measure, version))
            return
        rows = list_versions(connection, tenant, template, measure, limit)
    show(rows, as_json, title=f"Versions of {template}, {measure}", empty=f"none is registered yet: {FIRST_VERSION}")


@app.command()
def history(
    tenant: TenantOption, template: TemplateOption, measure: MeasureOption = "drift", as_json: JsonOption = False
) -> None:
    """Show when another method or version became the champion of a template, why, and who decided so."""
    with _of_tenant(tenant) as connection:
        rows = list_promotions(connection, tenant, template, measure)
    show(rows, as_json, title=f"Champions of {template}, {measure}", empty=f"none yet: {FIRST_VERSION}")


@app.command()
def rollback(
    tenant: TenantOption,
    template: TemplateOption,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")],
    version: Annotated[
        int | None, typer.Option("--to", help="The version whose fit is to serve; `show` lists them.")
    ] = None,
    method: Annotated[
        Method | None, typer.Option(help="Or a method, fitted anew each week; ewma goes without Prophet.")
    ] = None,
    measure: MeasureOption = "drift",
) -> None:
    """Let an earlier version, or another method, serve, and no back-test promote another, until `forecast unpin`.

    A version's fit serves as it was registered, whatever weeks come; from day to day it goes on learning, and bounds
    stay calibrated. A method is fitted anew each week.
    """
    to = version if method is None else method
    if to is None or (version is not None and method is not None):
        raise UsageError(f"say what is to serve: --to VERSION, or --method with one of {', '.join(METHODS)}")
    with _of_tenant(tenant) as connection:
        roll_back(connection, tenant, template, measure, to=to, reason=reason, author=getpass.getuser())
    told = f"version {to}" if method is None else method
    told = f"{template}: {told} is pinned for {measure}; it serves from the next refresh on."
    console.print(told, markup=False, highlight=False)


@app.command()
def unpin(tenant: TenantOption, template: TemplateOption, measure: MeasureOption = "drift") -> None:
    """Take a rollback back: from the next refresh on what forecasts best serves again."""
    with _of_tenant(tenant) as connection:
        unpin_version(connection, tenant, template, measure, author=getpass.getuser())
    told = f"{template}: {measure} is no longer pinned; what forecasts best serves from the next refresh on."
    console.print(told, markup=False, highlight=False)


@app.command()
def budget(
    tenant: TenantOption,
    weeks: Annotated[float | None, typer.Option(help="One false alarm a template in so many weeks.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show or set how often a template may alarm without a cause, for each of its two scores.

    What has been judged stands; days that are judged from now on, and those ahead, have the new bounds.
    """
    with _of_tenant(tenant) as connection:
        if weeks is not None:
            set_budget(connection, tenant, weeks)
        row = {"tenant": tenant, "budget_weeks": read_budget(connection, tenant)}
    show([row], as_json)


@contextmanager
def _of_tenant(tenant: str) -> Iterator[Connection]:
    with transaction() as (_, connection):
        require_tenant(connection, tenant)
        yield connection
