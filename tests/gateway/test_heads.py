"""Heads that never end, and connections that say nothing: given up, without a key and without a proxy."""

import socket
from collections.abc import Iterator

import httpx
import pytest
from door import serving
from poison import good, line

from gateway import heads
from storage.api_keys import create_key
from storage.clock import Clock
from storage.database import Connection, Database

START = b"POST /v1/evaluations HTTP/1.1\r\nHost: x\r\nX-Long: "


@pytest.fixture
def client(database: Database) -> Iterator[httpx.Client]:
    with serving(database) as client:
        yield client


def _connect(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=20)


def _rest(raw: socket.socket) -> bytes:
    """What comes until the other side closes."""
    read = b""
    try:
        while part := raw.recv(65536):
            read += part
    except ConnectionResetError:
        pass  # it was closed while more was on its way
    return read


def _pour(raw: socket.socket, most: int) -> None:
    for _ in range(most // 65536):
        raw.sendall(b"a" * 65536)


def test_a_head_without_an_end_is_cut_off_at_its_bound(client: httpx.Client) -> None:
    with _connect(client) as raw:
        raw.sendall(START)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            _pour(raw, 64 * heads.MOST_BYTES)


def test_who_says_nothing_or_not_all_is_given_up_and_a_request_in_parts_is_not(
    client: httpx.Client, connection: Connection, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = create_key(connection, tenant, ["ingest"], now=Clock().now())
    head = f"POST /v1/evaluations HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/x-ndjson\r\n"
    body = line(good(1))
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    monkeypatch.setattr(heads, "SECONDS", 0.5)
    with _connect(client) as silent, _connect(client) as begun, _connect(client) as second:
        begun.sendall(START)
        # The next request on a connection has to arrive in time too.
        second.sendall(request + START)
        assert _rest(silent) == _rest(begun) == b""
        assert _rest(second).startswith(b"HTTP/1.1 200")
    with _connect(client) as parts:
        for start in range(0, len(request), 16):
            parts.sendall(request[start : start + 16])
        assert parts.recv(20).startswith(b"HTTP/1.1 200")
