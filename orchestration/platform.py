"""One deployment, opened: what the command line and the demo work on."""

from dataclasses import dataclass

from storage.clock import Clock
from storage.database import Database
from storage.settings import Settings


@dataclass(frozen=True)
class Platform:
    """A deployment's settings, its database, its clock."""

    settings: Settings
    database: Database
    clock: Clock
