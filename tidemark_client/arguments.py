"""What a client may be made with, checked before anything is sent; no message holds the key."""

import math

import httpx


def server_url(url: str) -> httpx.URL:
    """The server's address.

    Raises:
        ValueError: it isn't one.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"url: {error}: give an address such as https://tidemark.example.com") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("url must start with http:// or https:// and name a host")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise ValueError("url must have no user, no password, no query and no fragment: the key is api_key's")
    return parsed


def require_key(api_key: str) -> None:
    """Refuse what can't be a key, such as one with its file's line end.

    Raises:
        ValueError: it can't.
    """
    if not api_key or any(not "!" <= letter <= "~" for letter in api_key):
        raise ValueError("api_key must be the key alone, without spaces or line ends: tidemark key create makes one")


def require_between(least: float, most: float = math.inf, **numbers: float) -> None:
    """Refuse numbers out of bounds, by their names.

    Raises:
        ValueError: one is.
    """
    for name, value in numbers.items():
        if not least <= value <= most:
            bounds = f"at least {least:,}" if most == math.inf else f"{least:,} to {most:,}"
            raise ValueError(f"{name} must be {bounds}, and is {value:,}")
