"""`python -m gateway`: serves the HTTP door of the deployment that the settings name, until a signal."""

import sys

import uvicorn

from gateway.app import create_app
from gateway.heads import BoundedHeads
from gateway.options import DoorOptions
from storage.clock import Clock
from storage.database import open_database
from storage.errors import TidemarkError, UsageError
from storage.garbage import rare_garbage_collection
from storage.logging import configure_logging
from storage.secrets import secret_box
from storage.settings import load_settings

_GRACE_SECONDS = 5


def main() -> None:
    """Serve: exit 1 if the deployment can't be opened and 2 on wrong settings, with a message and no traceback."""
    try:
        settings = load_settings()
        configure_logging(settings)
        app = create_app(open_database(settings), Clock(), secret_box(settings), DoorOptions.of(settings))
    except TidemarkError as error:
        sys.stderr.write(f"gateway: {error}\n")
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from None
    with rare_garbage_collection():
        uvicorn.run(
            app,
            http=BoundedHeads,
            host=settings.gateway_host,
            port=settings.gateway_port,
            # Not its access log: that has whole query strings in it, and people put keys into those by mistake.
            access_log=False,
            server_header=False,
            # Else a peer on loopback could call itself what it likes; see `networks`.
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )


if __name__ == "__main__":
    main()
