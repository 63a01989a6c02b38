"""What a request shows of the sender, what is taken of an answer, and httpx's names for what goes wrong."""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network

import httpx
import pytest
from delivering import LOOPBACK
from receiver import Behaviour, Received, Receiver, answer, receiving

from sensors.webhooks.pinned import PinnedTransport
from sensors.webhooks.transport import Answer, Transport
from storage.version import own_version

BODY = b'{"b": 1,\n "a": "\xc3\xa4"}'


def post(*urls: str, headers: dict[str, str] | None = None) -> list[Answer]:
    """One request to each, one after the other, over one transport."""

    async def exchange() -> list[Answer]:
        async with Transport(LOOPBACK, deadline=5.0) as transport:
            return [await transport.post(url, BODY, headers or {}) for url in urls]

    return asyncio.run(exchange())


def test_a_request_carries_the_signed_bytes_the_headers_it_was_given_and_four_more(receiver: Receiver) -> None:
    url = f"{receiver.url}/a%2Fb/{{c}}?q=1&r=%20#fragment"
    assert post(url, headers={"Content-Type": "application/json", "webhook-id": "7"}) == [Answer(200, response=b"ok")]
    (request,) = receiver.requests
    assert request.body == BODY
    assert request.path == "/hook/a%2Fb/{c}?q=1&r=%20"
    assert request.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "user-agent": f"tidemark/{own_version()}",
        "accept-encoding": "identity",
        "content-length": str(len(BODY)),
        "content-type": "application/json",
        "webhook-id": "7",
    }


@pytest.mark.parametrize("location", ["http://127.0.0.1:{port}/elsewhere", "http://[::zz/", ""])
def test_no_redirect_is_followed_no_cookie_kept_nothing_unpacked_and_no_proxy_asked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    tempting = {
        "Location": location.format(port=receiver.port),
        "Set_Cookie": "session=1; Path=/",
        "Content_Encoding": "gzip",
        "Content_Type": "text/plain; charset=utf-16",
        "Retry_After": "7",
    }
    receiver.behaviour = answer(307, b"\x1f\x8bnot packed", **tempting)
    with receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert post(receiver.url, receiver.url) == [Answer(307, None, b"\x1f\x8bnot packed", "7")] * 2
        assert proxy.connections == 0
    assert [request.path for request in receiver.requests] == ["/hook", "/hook"]
    assert not any("cookie" in request.headers for request in receiver.requests)


def half_answer(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.wfile.write(b"HTTP/1.1 503 No\r\nRetry-After: 9\r\nContent-Length: 100\r\n\r\nhalf")
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


def reset(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def no_http(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.wfile.write(b"220 mail.example ESMTP\r\n\r\n")


def silence(handler: BaseHTTPRequestHandler, _: Received) -> None:
    handler.connection.recv(1)


def test_the_path_and_query_of_a_url_are_in_no_log_record_whatever_comes_of_the_request(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "T0KEN-of-the-receiver"
    url = f"{receiver.url}/{secret}?{secret}"
    for behaviour in (answer(200), answer(302, Location=f"/{secret}"), half_answer, no_http, reset):
        receiver.behaviour = behaviour
        (told,) = post(url)
        assert secret not in str(told)
    post(url.replace("127.0.0.1", "10.0.0.1"), f"http://999.0.0.1/{secret}", f"http://[{secret}]/{secret}")
    assert len(receiver.requests) == 5
    # httpx tells of every request; what it tells is the masked URL.
    told_by_httpx = [record for record in caplog.records if record.name == "httpx"]
    assert len(told_by_httpx) == 3
    assert all(f"127.0.0.1:{receiver.port}/ " in record.getMessage() for record in told_by_httpx)
    assert not [record for record in caplog.records if secret in f"{record.getMessage()}{record.args}"]


@pytest.mark.parametrize(
    ("behaviour", "change", "kind"),
    [
        (answer(200), lambda url: url.replace("127.0.0.1", "127.0.0.2"), httpx.ConnectError),
        (answer(200), lambda url: url.replace("127.0.0.1", "10.0.0.1"), httpx.ConnectError),
        (answer(200), lambda url: url.replace("127.0.0.1", "nowhere.invalid"), httpx.ConnectError),
        (answer(200), lambda url: url.replace("127.0.0.1", "x" * 64), httpx.ConnectError),
        (answer(200), lambda url: url.replace("127.0.0.1", "9.9.9.9"), httpx.UnsupportedProtocol),
        (answer(200), lambda url: url.replace("http:", "https:"), httpx.ConnectError),
        (reset, str, httpx.ReadError),
        (no_http, str, httpx.RemoteProtocolError),
        (silence, str, httpx.TimeoutException),
    ],
)
def test_any_httpx_client_over_the_pinned_transport_hears_of_failures_in_httpx_own_classes(
    receiver: Receiver, behaviour: Behaviour, change: Callable[[str], str], kind: type[httpx.TransportError]
) -> None:
    receiver.behaviour = behaviour

    async def ask() -> None:
        pinned = PinnedTransport([ip_network("127.0.0.0/30")], deadline=1.0, verify=None)
        async with httpx.AsyncClient(transport=pinned) as client:
            await client.post(change(receiver.url), content=BODY)

    with pytest.raises(kind) as caught:
        asyncio.run(ask())
    assert str(caught.value)
    assert "/hook" not in str(caught.value)


def test_an_answer_that_breaks_off_has_its_status_its_first_bytes_and_then_the_reason(receiver: Receiver) -> None:
    receiver.behaviour = half_answer
    came: list[object] = []

    async def ask(client: httpx.AsyncClient) -> None:
        async with client, client.stream("POST", receiver.url) as response:
            came.append(response.status_code)
            async for part in response.aiter_raw():
                came.append(part)

    pinned = PinnedTransport(LOOPBACK, deadline=5.0, verify=None)
    with pytest.raises(httpx.RemoteProtocolError):
        asyncio.run(ask(httpx.AsyncClient(transport=pinned)))
    assert came == [503, b"half"]
    (told,) = post(receiver.url)
    assert (told.status_code, told.retry_after, told.response) == (503, "9", b"half")
    assert "RemoteProtocolError" in str(told.error)
