"""`tidemark refresh`: the asset graph brought up to date, in this process."""

from typing import Annotated, Any

import typer

from orchestration.commands.shared import JsonOption, console, platform, print_json, progress_console

ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Also when nothing has changed: all that is built on them, and yesterday."),
]
FullOption = Annotated[
    bool,
    typer.Option("--full", help="Make every table of the warehouse anew from what has landed, whatever is stale."),
]


def refresh(
    force: ForceOption = False,
    full: FullOption = False,
    as_json: JsonOption = False,
) -> None:
    """Materialize what is stale: days touched by what has landed, and all that is built on them."""
    from orchestration.refresh_in_process import refresh_in_process

    with platform() as opened, progress_console.status("Refreshing the asset graph"):
        outcome = refresh_in_process(opened, force=force, full=full)
    if as_json:
        print_json(outcome)
    elif outcome["refreshed"]:
        console.print(
            f"{_what(outcome)}: {outcome['assets']} assets, "
            f"{outcome['checks_passed']} checks passed, {outcome['checks_failed']} failed.",
            highlight=False,
            soft_wrap=True,
        )
        for failed in outcome["failed"]:
            console.print(f"  failed: {failed}", highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(
            "Nothing is stale: what has landed is in the marts; alerts, webhooks and recommendations are as they show."
        )


def _what(outcome: dict[str, Any]) -> str:
    if outcome["first_day"] is None:
        return "Brought the marts of alerts, webhooks and recommendations up to date"
    days = f"{outcome['first_day']} to {outcome['last_day']}"
    return f"Made every model anew and judged {days}" if outcome["anew"] else f"Refreshed {days}"
