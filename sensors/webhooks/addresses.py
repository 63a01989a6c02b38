"""Which addresses a webhook may reach: an own table, deny by default, the same verdict on every Python.

Belongs here: the verdict on an address and on all the addresses of a name. Does not belong here: resolving
(`resolver`) and connecting (`pinned`). `ipaddress.is_global` isn't asked: it calls NAT64 forms of a
private address global and changes between Python versions.

References:
    IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and successors).
"""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_DENIED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud metadata"),
        ("169.254.0.0/16", "link-local and cloud metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved and broadcast"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "documentation"),
    )
)
_PUBLIC_IPV6 = ip_network("2000::/3")  # all that is allotted for global unicast; the rest is denied unnamed
_ISATAP = (0x00005EFE, 0x02005EFE)


class ForbiddenAddressError(Exception):
    """An address that must not be reached, and what kind of address it is."""

    def __init__(self, address: Address, reason: str) -> None:
        super().__init__(f"{address} is not public ({reason})")


def reason_against(address: Address) -> str | None:
    """Why an address isn't public, or None if it is."""
    for network, reason in _DENIED:
        if address.version == network.version and address in network:
            return reason
    if isinstance(address, IPv6Address):
        if address not in _PUBLIC_IPV6:
            return "not global unicast"
        if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
            return "ISATAP"
    return None


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether the operator has named a network that holds this address."""
    return any(address.version == network.version and address in network for network in allowed)


def choose(resolved: Sequence[str], allowed: Sequence[Network]) -> Address:
    """The one address to connect to, of all that a name resolves to.

    An address that the operator allows is taken first. Otherwise every address must be public: a name with one public
    and one private address is refused altogether.

    Args:
        resolved: textual addresses in the resolver's order; at least one.
        allowed: networks that may be reached although not public.

    Raises:
        ForbiddenAddressError: there is none that may be reached.
    """
    addresses = [ip_address(text) for text in resolved]
    for address in addresses:
        if is_allowed(address, allowed):
            return address
    for address in addresses:
        if reason := reason_against(address):
            raise ForbiddenAddressError(address, reason)
    return addresses[0]


def numeric_address(host: str) -> Address | None:
    """The address that a host in numbers stands for, in any spelling a resolver takes (`127.1`, `0x7f000001`)."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return ip_address(found[0][4][0])
