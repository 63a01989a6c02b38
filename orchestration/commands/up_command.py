"""`tidemark up`: the platform, served until Ctrl-C."""

import os
import time
import urllib.error
import urllib.request
from contextlib import ExitStack

import typer

from orchestration.addresses import addresses, door_address, page_address
from orchestration.commands.shared import console, platform
from orchestration.instance import instance_environment
from orchestration.platform import Platform
from orchestration.supervisor import Supervisor, dagster_services, dispatcher_service, gateway_service, serving
from storage.errors import TidemarkError

_READY_PATIENCE_SECONDS = 120.0
_LINES_SHOWN = 15
_TITLES = {
    "gateway": "The HTTP door",
    "dispatcher": "The dispatcher",
    "page": "Dagster's page",
    "daemon": "Dagster's daemon",
}


def up() -> None:
    """Serve PostgreSQL, the HTTP door, the dispatcher, Dagster's page and its daemon; Ctrl-C stops them all."""
    with platform() as opened, ExitStack() as stack:
        for address in addresses(opened.settings):
            if address.is_taken():
                raise TidemarkError(
                    f"port {address.port} is in use. Stop what listens there, or choose another for {address.name}: "
                    f"{address.variable}={address.port + 1} make up"
                )
        if not stack.enter_context(serving(opened.database)):
            raise TidemarkError(
                f"another `tidemark up` serves {opened.settings.home} already, and two daemons on one instance would "
                "do everything twice. Stop the other one first, or give this one a TIDEMARK_HOME of its own."
            )
        environment = os.environ | instance_environment(opened.settings, opened.database)
        services = [gateway_service(), dispatcher_service(), *dagster_services(opened.settings.dagster_port)]
        supervisor = Supervisor(services, environment, opened.settings.home / "logs")
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
        raise TidemarkError(f"{_TITLES[ended]} ended by itself. The end of its log, {log}:\n{last}")
    console.print("Stopped.")
    raise typer.Exit(0)


def _announce(supervisor: Supervisor, opened: Platform) -> None:
    page = page_address(opened.settings).url
    door = door_address(opened.settings).url
    console.print(f"Starting the HTTP door at {door} and Dagster's page at {page} …", highlight=False)
    deadline = time.monotonic() + _READY_PATIENCE_SECONDS
    for address in (f"{door}/health", f"{page}/server_info"):
        while supervisor.is_whole() and time.monotonic() < deadline and not _answers(address):
            time.sleep(0.5)
    if not supervisor.is_whole():
        return
    console.print(
        f"\n  Assets, runs and sensors   {page}\n  The HTTP door              {door}/docs\n"
        f"  The marts                  tidemark psql\n"
        f"  Database                   {opened.database.platform.masked()}\n"
        f"  Logs                       {opened.settings.home / 'logs'}\n  Stop everything            Ctrl-C\n",
        highlight=False,
        soft_wrap=True,
    )


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2):  # noqa: S310 - our own page or door
            return True
    except (urllib.error.URLError, OSError):
        return False
