"""URLs of endpoints: which may be registered, and how they are shown.

Belongs here: what can be said of a URL without sending anything. Does not belong here: the verdict on an address
(`addresses`), which is asked again with every request (`pinned`); keeping URLs (`keys`).
"""

import re
import socket
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import httpx

from sensors.webhooks.addresses import Network, is_allowed, numeric_address, reason_against
from storage.errors import UsageError

MAX_URL_LENGTH = 2000
_MASK = "/…"
# A path such as `/hook` is no secret, and words of a path may stand in any answer.
_SHORTEST_SECRET = 8
_SHORTEST_TOKEN = 12
_TOKENS = re.compile("[/?&=]")
_UNREADABLE = "the webhook's URL can't be read: it should look like https://example.com/hook"
_ALLOW = "name its network in TIDEMARK_WEBHOOK_ALLOWED_NETWORKS (127.0.0.0/8 for local trials)"


def check_url(url: str, allowed: Sequence[Network]) -> None:
    """Refuse a URL that no delivery could use. What a name resolves to is checked again with every request.

    Raises:
        UsageError: with the remedy.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise UsageError(_UNREADABLE) from None
    if parts.scheme not in ("http", "https") or not host or len(url) > MAX_URL_LENGTH or not url.isascii():
        raise UsageError(
            f"a webhook's URL is https://host/path, at most {MAX_URL_LENGTH} ASCII characters (write other letters "
            "percent-encoded, hosts as punycode)"
        )
    if any(character <= " " or character in "\\\x7f" for character in url):
        raise UsageError("a webhook's URL has no blanks, backslashes or control characters: percent-encode them")
    if parts.username is not None or parts.password is not None:
        raise UsageError("a webhook's URL has no user or password in it: verify the signature instead")
    address = numeric_address(host)
    if address is not None and not is_allowed(address, allowed) and (reason := reason_against(address)):
        raise UsageError(f"webhooks don't go to {address} ({reason}): use a public address, or {_ALLOW}")
    try:
        httpx.URL(url)
    except httpx.InvalidURL:  # such as a host of four numbers that are no address
        raise UsageError(_UNREADABLE) from None
    if parts.scheme == "http" and not _leads_to_allowed(host, allowed):
        raise UsageError(f"use https: plain http is only for hosts that the operator allows; to allow one, {_ALLOW}")


def masked(url: str) -> str:
    """What is shown of a URL: scheme, host and port. Path and query may be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{_MASK}"


def without_secrets(text: bytes, url: str) -> bytes:
    """A text without the URL's path and query: receivers like to repeat in an error what they were asked for."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    tokens = [token for token in _TOKENS.split(target) if len(token) >= _SHORTEST_TOKEN]
    spellings = {spelling for part in (target, parts.path, parts.query, *tokens) for spelling in (part, unquote(part))}
    for spelling in sorted(spellings, key=len, reverse=True):
        secret = spelling.encode()
        text = text.replace(secret, _MASK.encode()) if len(secret) >= _SHORTEST_SECRET else text
        # What is kept of an answer may end amid it.
        for length in range(len(secret) - 1, _SHORTEST_SECRET - 1, -1):
            if text.endswith(secret[:length]):
                text = text[:-length] + _MASK.encode()
    return text


def _leads_to_allowed(host: str, allowed: Sequence[Network]) -> bool:
    if not allowed:
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    addresses = [numeric_address(str(entry[4][0])) for entry in found]
    return any(address is not None and is_allowed(address, allowed) for address in addresses)
