"""`tidemark dispatch`: the dispatcher alone, for deployments that start each process themselves."""

import logging

from orchestration.commands.shared import console, platform
from sensors.dispatcher import CONCURRENCY
from sensors.dispatcher import dispatch as run_dispatcher
from sensors.webhooks.delivery import Options
from storage.logging import configure_logging
from storage.secrets import secret_box


def dispatch() -> None:
    """Judge what lands and send webhooks at once, until Ctrl-C; any number may run, on any machine."""
    with platform() as opened:
        configure_logging(opened.settings, logging.INFO)
        options = Options(
            allowed=opened.settings.webhook_allowed_networks,
            concurrency=CONCURRENCY,
            page_url=opened.settings.page_url,
        )
        run_dispatcher(opened.database, secret_box(opened.settings), opened.clock, options)
    console.print("Stopped.")
