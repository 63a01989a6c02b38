"""An httpx transport that goes to an address that was checked, and takes no more than so much time and so many bytes.

Belongs here: where a request may go, how long it may take, what of its answer is handed on. Does not belong here: names
and addresses (`resolver`, `addresses`), the bytes on the wire (`connections`), what is sent (`transport`).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence

import httpx

from sensors.webhooks.addresses import ForbiddenAddressError, Network, is_allowed
from sensors.webhooks.connections import Answered, Connections, Peer
from sensors.webhooks.resolver import Resolver


class PinnedTransport(httpx.AsyncBaseTransport):
    """The name is resolved once, all its addresses are checked, and the connection goes to the one that was chosen.

    One deadline holds for the whole exchange, name resolution included; httpx's own time-outs, which are for each read,
    aren't looked at. Of the answer come the status, `Retry-After` and the body's first 1000 bytes as they were sent.
    Nothing else is handed on, so that no client above can keep a cookie, follow a redirect or unpack a body.
    """

    def __init__(self, allowed: Sequence[Network], *, deadline: float, verify: ssl.SSLContext | None) -> None:
        """Make a transport of one event loop.

        Args:
            allowed: networks that may be reached although not public, and without TLS.
            deadline: seconds for one exchange.
            verify: certificates to trust; those of the system if None.
        """
        self._allowed = allowed
        self._deadline = deadline
        self._resolver = Resolver(allowed)
        self._connections = Connections(verify or ssl.create_default_context())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its answer.

        Returns:
            The response. A body that breaks off raises its error when it is read, after the bytes that came.

        Raises:
            httpx.TransportError: no head of an answer came, and why; the message holds nothing of the request but its
                host.
        """
        answered = Answered()
        failure: httpx.TransportError | None = None
        try:
            async with asyncio.timeout(self._deadline):
                await request.aread()
                await self._connections.exchange(await self._pin(request.url), request, answered)
        except TimeoutError:
            failure = httpx.TimeoutException(f"no complete answer within {self._deadline:g} seconds")
        except httpx.TransportError as broken:
            failure = broken
        if answered.status_code is None:
            assert failure is not None  # noqa: S101 - an exchange that ends well has a status
            raise failure
        headers = {} if answered.retry_after is None else {b"Retry-After": answered.retry_after}
        return httpx.Response(answered.status_code, headers=headers, stream=_Body(answered.body, failure))

    async def aclose(self) -> None:
        """End the connections that are kept, and ask no name server any more."""
        self._resolver.close()
        self._connections.close()

    async def _pin(self, url: httpx.URL) -> Peer:
        tls = url.scheme == "https"
        # Not `host`: that is for people, with the letters of other scripts.
        host, port = url.raw_host.decode("ascii"), url.port or (443 if tls else 80)
        try:
            address = await self._resolver.address(host)
        except ForbiddenAddressError as forbidden:
            raise httpx.ConnectError(
                f"{forbidden}: TIDEMARK_WEBHOOK_ALLOWED_NETWORKS names the networks that webhooks may reach anyway"
            ) from None
        except (OSError, UnicodeError):
            raise httpx.ConnectError("the host's name does not resolve") from None
        # Asked again here: a name may lead elsewhere by now than on the day the endpoint was registered.
        if not tls and not is_allowed(address, self._allowed):
            raise httpx.UnsupportedProtocol("plain http is only for networks of TIDEMARK_WEBHOOK_ALLOWED_NETWORKS")
        return Peer(str(address), port, host, tls)


class _Body(httpx.AsyncByteStream):
    def __init__(self, came: bytes, failure: httpx.TransportError | None) -> None:
        self._came = came
        self._failure = failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._came
        if self._failure is not None:
            raise self._failure
