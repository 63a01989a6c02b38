"""TLS is always verified, for the name in the URL, although the connection goes to a pinned address."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import certificate
from delivering import SetClock, attempts, happen, register, send
from receiver import Receiver, receiving

from storage.database import Connection, Database
from storage.secrets import SecretBox


@contextmanager
def receiving_tls(path: Path) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with receiving(context=context) as receiver:
        yield receiver


@pytest.mark.parametrize(
    ("host", "expired", "trusted", "error"),
    [
        ("localhost", False, True, None),
        ("localhost", False, False, "self-signed certificate"),
        ("localhost", True, True, "certificate has expired"),
        ("other.example", False, True, "Hostname mismatch"),
        # The address is what is connected to, but the certificate has to be for the name.
        ("127.0.0.1", False, True, "Hostname mismatch"),
    ],
)
def test_a_certificate_must_be_trusted_current_and_for_the_urls_host(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    clock: SetClock,
    tmp_path: Path,
    host: str,
    expired: bool,
    trusted: bool,
    error: str | None,
) -> None:
    path = certificate(tmp_path, host, expired=expired)
    verify = ssl.create_default_context(cafile=str(path)) if trusted else None
    with receiving_tls(path) as receiver:
        register(connection, box, tenant, f"https://localhost:{receiver.port}/hook", clock)
        happen(connection, tenant, clock, "one")
        result = send(database, box, clock, verify=verify)
    ((_, status, found, _, _),) = attempts(connection)
    if error is None:
        assert (result.delivered, status, found) == (1, 200, None)
        assert receiver.requests[0].headers["host"] == f"localhost:{receiver.port}"
    else:
        assert (result.retried, status, receiver.requests) == (1, None, [])
        assert error in str(found)
