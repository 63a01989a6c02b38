"""TLS is always verified, for the name in the URL, although the connection goes to a pinned address."""

import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from delivering import SetClock, attempts, happen, register, send
from receiver import Receiver, receiving

from storage.database import Connection, Database
from storage.secrets import SecretBox


def certificate(folder: Path, host: str, *, expired: bool = False) -> Path:
    """A self-signed certificate for one name, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=-1 if expired else 1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}-{expired}.pem"
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


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
