"""The HTTP door served on loopback from a thread of the test."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import structlog
import uvicorn
from cryptography.fernet import Fernet

from gateway.app import create_app
from gateway.heads import BoundedHeads
from gateway.options import DoorOptions
from storage.clock import Clock
from storage.database import Database
from storage.logging import configure_logging
from storage.secrets import SecretBox
from storage.settings import Settings


@contextmanager
def serving(
    database: Database, clock: Clock | None = None, options: DoorOptions | None = None, box: SecretBox | None = None
) -> Iterator[httpx.Client]:
    """A client of the door, which is open for the length of the block."""
    # As in a deployment; structlog's own default writes local variables into a log, and takes seconds for it.
    configure_logging(Settings(_env_file=None, log_format="json"))  # type: ignore[call-arg]
    app = create_app(database, clock or Clock(), box or SecretBox([Fernet.generate_key().decode()]), options)
    server = uvicorn.Server(
        uvicorn.Config(app, http=BoundedHeads, log_level="critical", access_log=False, proxy_headers=False)
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        # Listening before the server runs: the first request waits in the queue instead of a sleep here.
        listener.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(20)
            structlog.reset_defaults()
    assert not thread.is_alive()


def problem(answer: httpx.Response, status: int) -> dict[str, object]:
    """The problem document of an answer that must be one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = answer.json()
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert document["title"]
    assert document["detail"]
    return document
