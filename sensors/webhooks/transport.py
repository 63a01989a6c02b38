"""One exchange with an endpoint: resolved, checked, pinned, bounded in time and in bytes.

Belongs here: where a request may go, how long it may take, what is told of it. Does not belong here: the bytes on the
wire (`connections`), what an answer means (`schedule`). No proxy, cookie, redirect or packed answer is taken: nothing
here knows how.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import h11

from sensors.webhooks.addresses import Address, ForbiddenAddressError, Network, choose, is_allowed
from sensors.webhooks.connections import Answered, Connections, Peer, StaleConnectionError

DEADLINE_SECONDS = 15.0
# One verdict on a name serves the exchanges of a burst; every connection goes to an address that was checked.
VERDICT_SECONDS = 2.0
_MAX_VERDICTS = 1000
_RESOLVERS = 32


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status_code: None if no complete head of an answer came.
        error: why there is no status, or why the answer's body is incomplete; never holds anything of the request.
        response: the first bytes of the body, at most 1000, as they came.
        retry_after: the header of that name, as it came.
        stale: a kept connection had ended, so that this tells nothing of the endpoint.
    """

    status_code: int | None
    error: str | None = None
    response: bytes = b""
    retry_after: str | None = None
    stale: bool = False


class _Target(NamedTuple):
    tls: bool
    host: str
    port: int
    netloc: bytes
    path: bytes


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
        self._connections = Connections(verify or ssl.create_default_context())
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="webhook-resolver")
        self._verdicts: dict[tuple[str, int], tuple[float, asyncio.Future[Address]]] = {}

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
        self._connections.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request; every failure of the network or of the endpoint is an `Answer`, never an exception."""
        answered = Answered()
        error: str | None = None
        try:
            async with asyncio.timeout(self._deadline):
                target = _parse(url)
                address = await self._address(target.host, target.port)
                # Asked again here: a name may lead elsewhere by now than on the day the endpoint was registered.
                if not target.tls and not is_allowed(address, self._allowed):
                    raise _PlainHttpError
                peer = Peer(str(address), target.port, target.host, target.tls)
                await self._connections.exchange(peer, target.path, _encode(target, headers, body), body, answered)
        except TimeoutError:
            error = f"no complete answer within {self._deadline:g} seconds"
        except ForbiddenAddressError as forbidden:
            error = f"{forbidden}: TIDEMARK_WEBHOOK_ALLOWED_NETWORKS names the networks that webhooks may reach anyway"
        except (_PlainHttpError, StaleConnectionError) as refused:
            error = str(refused)
        except (h11.ProtocolError, OSError, ValueError) as failure:
            error = _describe(failure)
        return Answer(answered.status_code, error, answered.body, answered.retry_after, answered.stale)

    async def _address(self, host: str, port: int) -> Address:
        now = time.monotonic()
        asked_at, verdict = self._verdicts.get((host, port), (now, None))
        if verdict is None or now - asked_at > VERDICT_SECONDS:
            if len(self._verdicts) >= _MAX_VERDICTS:
                self._verdicts.clear()
            verdict = asyncio.ensure_future(self._resolve(host, port))
            # Else a verdict that nobody waited for to its end would be complained about.
            verdict.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._verdicts[host, port] = now, verdict
        # Shielded: whoever's deadline comes first must not take the others' verdict away.
        return await asyncio.shield(verdict)

    async def _resolve(self, host: str, port: int) -> Address:
        found = await asyncio.get_running_loop().run_in_executor(
            self._resolvers, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return choose([str(entry[4][0]) for entry in found], self._allowed)


class _PlainHttpError(Exception):
    def __init__(self) -> None:
        super().__init__("plain http is only for networks of TIDEMARK_WEBHOOK_ALLOWED_NETWORKS")


@lru_cache(maxsize=1000)
def _parse(url: str) -> _Target:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host = parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(tls, host, parts.port or (443 if tls else 80), parts.netloc.encode("ascii"), path.encode("ascii"))


def _encode(target: _Target, headers: Mapping[str, str], body: bytes) -> list[tuple[bytes, bytes]]:
    own = [(b"Host", target.netloc), (b"Accept-Encoding", b"identity"), (b"Content-Length", b"%d" % len(body))]
    return own + [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]


def _describe(failure: Exception) -> str:
    if isinstance(failure, socket.gaierror):
        return "the host's name does not resolve"
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _plain(f"the certificate is not valid: {cause.verify_message}")
        cause = cause.__cause__ or cause.__context__
    return _plain(f"{type(failure).__name__}: {failure}")


def _plain(text: str) -> str:
    # Part of it may have come from the endpoint, and not every character can be stored.
    return text.encode("ascii", "backslashreplace").decode().replace("\0", "")[:300]
