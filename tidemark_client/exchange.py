"""One request and its answer, bounded in time and bytes, with the key in no error.

Belongs here: HTTP. Does not belong here: what an answer means and whether to try again (`delivery`).
"""

import json
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from types import MappingProxyType

import httpx

MOST_BYTES_ANSWERED = 4 * 1024 * 1024
_TOLD = 300
_GZIP = 16 + zlib.MAX_WBITS
# The fastest: records shrink to a seventh already, and more would cost a sender more than its network.
_GZIP_LEVEL = 1


@dataclass(frozen=True)
class Answer:
    """A complete answer.

    Attributes:
        status: the HTTP status.
        headers: by their names in lower case.
        document: its JSON, or None if it has none.
        told: what it says of itself, for messages.
    """

    status: int
    headers: Mapping[str, str]
    document: object
    told: str


@dataclass(frozen=True)
class NoAnswer:
    """Nothing, or not all of it, came back; nobody knows whether the request was carried out."""

    told: str


class Exchange:
    """A connection to one server under one key."""

    def __init__(self, url: httpx.URL, api_key: str, timeout: float, gzip: bool) -> None:
        self._url = url
        self._key = api_key
        self._timeout = timeout
        self._gzip = gzip
        self._lock = threading.Lock()
        self._http: httpx.Client | None = None

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._http is not None:
                self._http.close()

    def _client(self) -> httpx.Client:
        # At the first request: a process that is forked and never sends should not read certificates.
        with self._lock:
            if self._http is None:
                headers = {"X-API-Key": self._key, "User-Agent": "tidemark-client", "Accept": "application/json"}
                self._http = httpx.Client(base_url=self._url, headers=headers, follow_redirects=False)
            return self._http

    def pack(self, body: bytes) -> tuple[bytes, Mapping[str, str]]:
        """A body as it is sent, with the headers that say so."""
        headers = {"Content-Type": "application/x-ndjson"}
        if not self._gzip:
            return body, headers
        packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP)
        return packer.compress(body) + packer.flush(), headers | {"Content-Encoding": "gzip"}

    def send(self, path: str, content: bytes, headers: Mapping[str, str], remaining: float) -> Answer | NoAnswer:
        """POST and read the answer; never raises for what happens on the way.

        Args:
            path: below the server's URL.
            content: the body, packed.
            headers: besides the key.
            remaining: seconds that this may take at most.
        """
        ends = monotonic() + min(self._timeout, remaining)
        timeout = min(self._timeout, remaining)
        try:
            with self._client().stream("POST", path, content=content, headers=headers, timeout=timeout) as response:
                body = b""
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MOST_BYTES_ANSWERED:
                        return NoAnswer("an answer larger than 4 MiB, which no Tidemark server gives")
                    # httpx counts each read alone: an answer that drips would never end.
                    if monotonic() > ends:
                        return NoAnswer(f"the answer was not complete within {timeout:g} s")
                return self._answer(response, body)
        except httpx.RequestError as error:
            # As text: the exception's request has the key among its headers.
            return NoAnswer(self._redacted(f"{type(error).__name__}: {error}"))

    def _answer(self, response: httpx.Response, body: bytes) -> Answer:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        detail = document.get("detail") if isinstance(document, dict) else None
        status = f"{response.status_code} {response.reason_phrase}".strip()
        told = f"the server answered {status}" + (f": {detail}" if detail else "")
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, MappingProxyType(headers), document, self._redacted(told))

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "***")[:_TOLD]
