"""One exchange with an endpoint: what is sent, and what is told of it.

Belongs here: the request, and the answer or the reason why there is none. Does not belong here: where a request may go
and for how long (`pinned`), what an answer means (`schedule`).
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from sensors.webhooks.addresses import Network
from sensors.webhooks.connections import StaleConnectionError
from sensors.webhooks.pinned import PinnedTransport
from storage.version import own_version

DEADLINE_SECONDS = 15.0


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
        pinned = PinnedTransport(allowed, deadline=deadline, verify=verify)
        self._client = httpx.AsyncClient(transport=pinned, trust_env=False, follow_redirects=False, timeout=deadline)
        self._own = {"User-Agent": f"tidemark/{own_version()}", "Accept-Encoding": "identity"}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request; every failure of the network or of the endpoint is an `Answer`, never an exception."""
        status_code: int | None = None
        retry_after: str | None = None
        came = b""
        try:
            origin, target = _split(url)
            # Not built by the client, which would add headers of its own.
            request = httpx.Request(
                "POST", origin, headers={**self._own, **headers}, content=body, extensions={"target": target}
            )
            response = await self._client.send(request, stream=True)
            status_code, retry_after = response.status_code, response.headers.get("Retry-After")
            async for part in response.aiter_raw():
                came += part
        except StaleConnectionError as ended:
            return Answer(None, str(ended), stale=True)
        except (httpx.TransportError, httpx.InvalidURL, ValueError) as failure:
            return Answer(status_code, _plain(str(failure)), came, retry_after)
        return Answer(status_code, None, came, retry_after)


@lru_cache(maxsize=1000)
def _split(url: str) -> tuple[httpx.URL, bytes]:
    # The path and the query may be secrets, and httpx puts a request's URL into its log and its errors: it gets to know
    # the host, and what is asked of it travels beside.
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return httpx.URL(f"{parts.scheme}://{parts.netloc}/"), target.encode("ascii")


def _plain(text: str) -> str:
    # Part of it may have come from the endpoint, and not every character can be stored.
    return text.encode("ascii", "backslashreplace").decode().replace("\0", "")[:300]
