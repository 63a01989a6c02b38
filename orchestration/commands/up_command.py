"""`tidemark up`: the platform, served until Ctrl-C."""

import os
import time
import urllib.error
import urllib.request
from contextlib import ExitStack

import typer

from orchestration.commands.platform_commands import port_is_taken
from orchestration.commands.shared import console, platform
from orchestration.instance import instance_environment
from orchestration.platform import Platform
from orchestration.supervisor import Supervisor, dagster_services, serving
from storage.errors import TidemarkError

_READY_PATIENCE_SECONDS = 120.0
_LINES_SHOWN = 15


def up() -> None:
    """Serve PostgreSQL, Dagster's page and its daemon; Ctrl-C stops them all."""
    with platform() as opened, ExitStack() as stack:
        port = opened.settings.dagster_port
        if port_is_taken(port):
            raise TidemarkError(
                f"port {port} is in use. Stop what listens there, or choose another: TIDEMARK_DAGSTER_PORT=3001 make up"
            )
        if not stack.enter_context(serving(opened.database)):
            raise TidemarkError(
                f"another `tidemark up` serves {opened.settings.home} already, and two daemons on one instance would "
                "do everything twice. Stop the other one first, or give this one a TIDEMARK_HOME of its own."
            )
        environment = os.environ | instance_environment(opened.settings, opened.database)
        supervisor = Supervisor(dagster_services(port), environment, opened.settings.home / "logs")
        ended: str | None = None
        try:
            supervisor.start()
            _announce(supervisor, opened)
            ended = supervisor.wait()
        finally:
            console.print("Stopping …")
            supervisor.stop()
    if ended is not None:
        log = supervisor.log_of(ended)
        last = "\n".join(log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:])
        raise TidemarkError(f"Dagster's {ended} ended by itself. The end of its log, {log}:\n{last}")
    console.print("Stopped.")
    raise typer.Exit(0)


def _announce(supervisor: Supervisor, opened: Platform) -> None:
    page = f"http://127.0.0.1:{opened.settings.dagster_port}"
    console.print(f"Starting Dagster's page at {page} …", highlight=False)
    deadline = time.monotonic() + _READY_PATIENCE_SECONDS
    while supervisor.is_whole() and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{page}/server_info", timeout=2):  # noqa: S310 - our own page
                break
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    if not supervisor.is_whole():
        return
    console.print(
        f"\n  Assets, runs and sensors   {page}\n  The marts                  tidemark psql\n"
        f"  Database                   {opened.database.platform.masked()}\n"
        f"  Logs                       {opened.settings.home / 'logs'}\n  Stop everything            Ctrl-C\n",
        highlight=False,
        soft_wrap=True,
    )
