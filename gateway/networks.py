"""Peers: from where what is not for everybody may be asked.

The peer of the connection decides, never a header that anybody can write. A request that says it was forwarded came
through a proxy, whose address tells nothing of its sender: it never counts as near.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from fastapi import Request

from gateway.options import Network

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def is_near(request: Request, networks: Sequence[Network]) -> bool:
    """Whether the request comes straight from loopback or one of the networks."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        peer: IPv4Address | IPv6Address = ip_address(request.client.host)
    except ValueError:
        return False
    if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped
    return peer.is_loopback or any(peer in network for network in networks)
