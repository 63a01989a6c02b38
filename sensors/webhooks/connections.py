"""HTTP/1.1 over pinned connections: one request and its answer at a time, and connections kept for the next one.

Belongs here: bytes and sockets, and httpx's names for what goes wrong with them. Does not belong here: which address is
reached and for how long (`pinned`), what an answer means (`schedule`).

Over h11, at 0.15 ms of CPU a request. httpx's pool, which httpx's own transport brings, looks at every connection for
every request: 2.3 ms with 32 under way.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import NamedTuple

import h11
import httpx

MAX_HEAD_BYTES = 32_768
MAX_RESPONSE_BYTES = 1000
# Less than any server in use keeps a silent connection, so that one that is taken up again is seldom found closed.
IDLE_SECONDS = 1.0
MAX_IDLE = 256
_MAX_LINE_BYTES = 16_384
_MAX_UNKEPT = 1000
# At once: what one reading of a socket brings may be a head of forty thousand lines, and all others wait meanwhile.
_PARSED_BYTES = 8192


class Peer(NamedTuple):
    """To whom a connection leads. Its certificate was checked for `host`: for no other is it used again."""

    address: str
    port: int
    host: str
    tls: bool


@dataclass
class Answered:
    """What has come back so far; filled while it comes, so that a deadline leaves what there was."""

    status_code: int | None = None
    retry_after: bytes | None = None
    body: bytes = b""


class StaleConnectionError(httpx.ReadError):
    """A kept connection had ended: the peer closed it before a byte of its answer came."""

    def __init__(self) -> None:
        super().__init__("a kept connection was closed before an answer; sent again over a new one")


class _Connection(asyncio.Protocol):
    """One socket: asks, and listens only while it has asked."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_LINE_BYTES)
        self.closing: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._answered = Answered()
        self._done: asyncio.Future[None] | None = None
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream's protocol is given
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            # Nobody asked: it could only be taken for the answer to the next request.
            self.abort()
            return
        for start in range(0, len(data), _PARSED_BYTES):
            if self._done.done():
                # Looked at no more, but there: nothing may follow an answer on a connection that is kept.
                self.http.receive_data(data[start:])
                return
            part = data[start : start + _PARSED_BYTES]
            self._received += len(part)
            self._advance(part)

    def eof_received(self) -> None:
        if self._done is not None and not self._done.done():
            self._advance(b"")

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._done is not None and not self._done.done():
            self._done.set_exception(error or ConnectionResetError("the connection was closed"))

    async def ask(self, request: httpx.Request, answered: Answered) -> None:
        if self._transport is None:
            raise httpx.ReadError("the connection was closed")
        self._answered, self._received = answered, 0
        self._done = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(self._spelled(request))
            await self._done
        except OSError as error:
            raise httpx.ReadError(_reason(error)) from None
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(_reason(error)) from None
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(_reason(error)) from None

    def is_usable(self) -> bool:
        """Whether a complete answer came, nothing after it, and the peer is still there."""
        states = (self.http.our_state, self.http.their_state)
        is_whole = states in ((h11.DONE, h11.DONE), (h11.IDLE, h11.IDLE)) and not self.http.trailing_data[0]
        return is_whole and self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        if self.closing is not None:
            self.closing.cancel()
        if self._transport is not None:
            # Not closed: that would wait for a peer to take what is left to send.
            self._transport.abort()

    def _spelled(self, request: httpx.Request) -> bytes:
        target = request.extensions.get("target", request.url.raw_path)
        head = h11.Request(method=request.method, target=target, headers=request.headers.raw)
        events = (head, h11.Data(data=request.content), h11.EndOfMessage())
        return b"".join(part for part in map(self.http.send, events) if part)

    def _advance(self, data: bytes) -> None:
        assert self._done is not None  # noqa: S101 - its callers have looked
        try:
            self.http.receive_data(data)
            while not self._is_answered():
                pass
        except _NeedsMoreError:
            return
        except h11.RemoteProtocolError as error:
            self._done.set_exception(error)
            return
        self._done.set_result(None)

    def _is_answered(self) -> bool:
        event = self.http.next_event()
        answered = self._answered
        if event is h11.NEED_DATA:
            if answered.status_code is None and self._received > MAX_HEAD_BYTES:
                raise h11.RemoteProtocolError(f"no answer within its first {MAX_HEAD_BYTES} bytes")
            raise _NeedsMoreError
        if isinstance(event, h11.Response):
            answered.status_code = event.status_code
            answered.retry_after = _retry_after(event)
        elif isinstance(event, h11.Data):
            answered.body += bytes(event.data[: MAX_RESPONSE_BYTES - len(answered.body)])
            return len(answered.body) >= MAX_RESPONSE_BYTES
        return isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or event is h11.PAUSED


class _NeedsMoreError(Exception):
    pass


class Connections:
    """Connections of one event loop: opened when needed, kept for a second after a complete answer."""

    def __init__(self, verify: ssl.SSLContext) -> None:
        self._verify = verify
        self._idle: dict[Peer, list[_Connection]] = {}
        self._idle_count = 0
        # Those who once closed a kept connection without saying so: asked over new ones from then on.
        self._unkept: set[Peer] = set()

    async def exchange(self, peer: Peer, request: httpx.Request, answered: Answered) -> None:
        """Send one request and read its answer into `answered`: the head, and up to 1000 bytes of the body.

        Args:
            peer: where to; the request's own URL isn't asked.
            request: its body has been read; the extension `target` goes before the URL's path, as in httpx.
            answered: holds what came, also when this raises.

        Raises:
            StaleConnectionError: a kept connection had ended.
            httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, httpx.LocalProtocolError: as they say.
        """
        connection = self._take(peer)
        is_kept = connection is not None
        if connection is None:
            connection = await self._open(peer)
        try:
            await connection.ask(request, answered)
        except (httpx.ReadError, httpx.RemoteProtocolError):
            connection.abort()
            if is_kept and answered.status_code is None and not connection.http.trailing_data[0]:
                self._remember_unkept(peer)
                raise StaleConnectionError from None
            raise
        except BaseException:
            connection.abort()
            raise
        self._keep(connection)

    def close(self) -> None:
        """End every connection that is kept."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()
        self._idle_count = 0

    async def _open(self, peer: Peer) -> _Connection:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(peer),
                peer.address,
                peer.port,
                ssl=self._verify if peer.tls else None,
                server_hostname=peer.host if peer.tls else None,
            )
        except OSError as error:
            raise httpx.ConnectError(_reason(error)) from None
        return connection

    def _take(self, peer: Peer) -> _Connection | None:
        while kept := self._idle.get(peer):
            connection = kept.pop()
            self._forget(peer)
            if connection.closing is not None:
                connection.closing.cancel()
            if connection.is_usable():
                return connection
            connection.abort()
        return None

    def _keep(self, connection: _Connection) -> None:
        if not connection.is_usable() or self._idle_count >= MAX_IDLE or connection.peer in self._unkept:
            connection.abort()
            return
        connection.http.start_next_cycle()
        connection.closing = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire, connection)
        self._idle.setdefault(connection.peer, []).append(connection)
        self._idle_count += 1

    def _remember_unkept(self, peer: Peer) -> None:
        if len(self._unkept) >= _MAX_UNKEPT:
            self._unkept.clear()
        self._unkept.add(peer)

    def _expire(self, connection: _Connection) -> None:
        self._idle[connection.peer].remove(connection)
        self._forget(connection.peer)
        connection.abort()

    def _forget(self, peer: Peer) -> None:
        self._idle_count -= 1
        if not self._idle[peer]:
            del self._idle[peer]


def _retry_after(response: h11.Response) -> bytes | None:
    for name, value in response.headers:
        if name == b"retry-after":
            return bytes(value[:100])
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    return f"{type(error).__name__}: {error}"
