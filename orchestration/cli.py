"""The command `tidemark`: its groups, and one place where errors become messages and exit codes."""

import logging
import os
import signal
import sys
import warnings
from types import FrameType

import psycopg
import typer

from orchestration.commands import (
    alert,
    audit,
    config,
    data,
    drop,
    forecast,
    key,
    manifest,
    platform_commands,
    retention,
    selection,
    tenant,
    threshold,
    webhook,
)
from orchestration.commands.demo_command import demo
from orchestration.commands.dispatch_command import dispatch
from orchestration.commands.docs_command import docs
from orchestration.commands.recommend import recommend
from orchestration.commands.refresh_command import refresh
from orchestration.commands.report import report
from orchestration.commands.up_command import up
from orchestration.commands.worker_command import worker
from orchestration.instance import QUIET
from storage.errors import TidemarkError, UsageError
from storage.logging import configure_logging
from storage.settings import load_settings

app = typer.Typer(
    name="tidemark",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Which ML pipelines are drifting, which are about to, and which model to use instead.",
)

for command in (
    up,
    dispatch,
    worker,
    demo,
    platform_commands.migrate,
    platform_commands.doctor,
    platform_commands.settings,
    data.push,
    data.feedback,
    refresh,
    recommend,
    docs,
    report,
):
    app.command()(command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(platform_commands.psql)
for name, group in {
    "tenant": tenant.app,
    "key": key.app,
    "manifest": manifest.app,
    "drop": drop.app,
    "rejects": data.rejects,
    "webhook": webhook.app,
    "selection": selection.app,
    "forecast": forecast.app,
    "threshold": threshold.app,
    "alert": alert.app,
    "config": config.app,
    "retention": retention.app,
    "audit": audit.app,
}.items():
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command line: exit 1 on failure and 2 on wrong use, with a message and no traceback."""
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    # Dagster announces the age of its own parameters; a user of Tidemark can do nothing about it.
    warnings.filterwarnings("ignore", module=r"dagster\..*")
    # As an exception, so that what is open is closed: the embedded server counts its users at their exit.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        configure_logging(load_settings(), logging.WARNING)
        app()
    except UsageError as error:
        _fail(error, 2)
    except TidemarkError as error:
        _fail(error, 1)
    except psycopg.errors.InsufficientPrivilege as error:
        who = "this login of PostgreSQL may not do that"
        _fail(f"{who} ({error.diag.message_primary}): docs/access.md tells which may. The owner's may do all.", 1)
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        _fail(f"PostgreSQL went away meanwhile ({reason}). What was committed stands: run this again to finish it.", 1)
    except KeyboardInterrupt:
        _fail("stopped", 130)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


def _fail(message: object, status: int) -> None:
    sys.stderr.write(f"tidemark: {message}\n")
    raise SystemExit(status)


if __name__ == "__main__":
    main()
