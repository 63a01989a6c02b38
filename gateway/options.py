"""What a deployment chooses about the door; the defaults are those of the settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Self

from storage.settings import Settings

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class DoorOptions:
    """Limits and networks of the door.

    Attributes:
        most_bytes_in_flight: bodies held at once, over all requests.
        body_seconds: how long a body may take to arrive; a sender that drips would keep its share of the bytes.
        admin_networks: see TIDEMARK_ADMIN_NETWORKS.
    """

    most_bytes_in_flight: int = 64 * 1024 * 1024
    body_seconds: float = 60.0
    admin_networks: Sequence[Network] = ()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings say."""
        return cls(most_bytes_in_flight=settings.gateway_max_in_flight_bytes, admin_networks=settings.admin_networks)
