"""One exchange with an endpoint: resolved once, checked, pinned, bounded in time and in bytes.

Belongs here: how a request leaves and what of the answer is read. Does not belong here: what an answer means
(`delivery`). It speaks through httpx's transport and not through its client, which would keep cookies and may follow
redirects, take proxies from the environment and unpack compressed answers.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from sensors.webhooks.addresses import ForbiddenAddressError, Network, choose, is_allowed

DEADLINE_SECONDS = 15.0
MAX_RESPONSE_BYTES = 1000
_RESOLVERS = 16


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status_code: None if no complete head of an answer came.
        error: why there is no status, or why the answer's body is incomplete; never holds anything of the request.
        response: the first bytes of the body, at most 1000, as they came.
    """

    status_code: int | None
    error: str | None = None
    response: bytes = b""


class Transport:
    """Sends requests, several at once; an async context manager, since it owns connections and resolver threads."""

    def __init__(
        self,
        allowed: Sequence[Network],
        *,
        deadline: float = DEADLINE_SECONDS,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        """Make a transport.

        Args:
            allowed: networks that may be reached although not public.
            deadline: seconds for the whole exchange, name resolution included.
            verify: certificates to trust; those of the system if None.
        """
        self._allowed = allowed
        self._deadline = deadline
        # No connection is kept: the pool knows them by address alone, and one whose certificate was checked for a host
        # must not serve another host at the same address.
        self._http = httpx.AsyncHTTPTransport(
            verify=verify or ssl.create_default_context(),
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="webhook-resolver")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Not waited for: a resolver that hangs must not hold up the deliveries' caller.
        self._resolvers.shutdown(wait=False, cancel_futures=True)
        await self._http.aclose()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request; every failure of the network or of the endpoint is an `Answer`, never an exception."""
        received = bytearray()
        status: int | None = None
        try:
            async with asyncio.timeout(self._deadline):
                request = await self._request(httpx.URL(url), body, headers)
                response = await self._http.handle_async_request(request)
                status = response.status_code
                await _read(response, received)
            error = None
        except TimeoutError:
            error = f"no complete answer within {self._deadline:g} seconds"
        except ForbiddenAddressError as forbidden:
            error = f"{forbidden}: TIDEMARK_WEBHOOK_ALLOWED_NETWORKS names the networks that webhooks may reach anyway"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as failure:
            error = _describe(failure)
        return Answer(status, error, bytes(received))

    async def _request(self, url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> httpx.Request:
        address = choose(await self._resolve(url), self._allowed)
        # Asked again here: a name may lead elsewhere by now than on the day the endpoint was registered.
        if url.scheme != "https" and not is_allowed(address, self._allowed):
            raise httpx.UnsupportedProtocol("plain http is only for networks of TIDEMARK_WEBHOOK_ALLOWED_NETWORKS")
        return httpx.Request(
            "POST",
            url.copy_with(host=str(address)),
            headers={"Host": url.netloc.decode(), "Accept-Encoding": "identity", "Connection": "close", **headers},
            content=body,
            extensions={
                "sni_hostname": url.raw_host.decode(),
                "timeout": httpx.Timeout(self._deadline).as_dict(),
            },
        )

    async def _resolve(self, url: httpx.URL) -> list[str]:
        port = url.port or (443 if url.scheme == "https" else 80)
        found = await asyncio.get_running_loop().run_in_executor(
            self._resolvers, lambda: socket.getaddrinfo(url.raw_host.decode(), port, type=socket.SOCK_STREAM)
        )
        return [str(entry[4][0]) for entry in found]


async def _read(response: httpx.Response, received: bytearray) -> None:
    try:
        async for chunk in response.aiter_raw():
            received += chunk[: MAX_RESPONSE_BYTES - len(received)]
            if len(received) >= MAX_RESPONSE_BYTES:
                return
    finally:
        await response.aclose()


def _describe(failure: Exception) -> str:
    if isinstance(failure, socket.gaierror):
        return "the host's name does not resolve"
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not valid: {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    return f"{type(failure).__name__}: {failure}"[:300]
