"""Where the served processes listen, and whether something listens there already."""

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from storage.settings import Settings

_LOOPBACK = "127.0.0.1"
_EVERYWHERE = {"0.0.0.0": _LOOPBACK, "::": "::1"}  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True)
class Address:
    """One listener: what it is, the setting of its port, and where it listens."""

    name: str
    variable: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """How to reach it from this machine."""
        host = _EVERYWHERE.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def is_taken(self) -> bool:
        """Whether something listens there already."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                # Anything else, a port that takes a right we lack, is for the listener itself to tell.
                return error.errno == errno.EADDRINUSE
        return False


def door_address(settings: Settings) -> Address:
    """Of the HTTP door."""
    return Address("the HTTP door", "TIDEMARK_GATEWAY_PORT", settings.gateway_host, settings.gateway_port)


def page_address(settings: Settings) -> Address:
    """Of Dagster's page."""
    return Address("Dagster's page", "TIDEMARK_DAGSTER_PORT", _LOOPBACK, settings.dagster_port)


def addresses(settings: Settings) -> Sequence[Address]:
    """Of everything that `tidemark up` serves."""
    return door_address(settings), page_address(settings)
