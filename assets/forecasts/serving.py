"""Who is to serve each template: by which method, and whether a version's fit is held to.

Belongs here: that choice as arrays. Does not belong here: who made it (champions.py, rollbacks.py), where it is stored
(registry.py).
"""

from dataclasses import dataclass, fields
from datetime import date

import numpy as np
import numpy.typing as npt

from assets.forecasts import versions
from assets.forecasts.methods import PROPHET
from assets.forecasts.panel import Bools
from assets.forecasts.versions import Versions

# A day that doesn't come.
NEVER = date.max.toordinal()

Methods = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Serving:
    """A row a template.

    Attributes:
        methods: (n,) numbers in METHODS.
        since: (n,) ordinal of the first day that a pinned version serves, the day after the last that it was fitted on;
            NEVER where none is pinned. Weeks that began before are forecast as if none were.
        fits: (n,) what is pinned.
        model_ids: (n,) 16 bytes, of the pinned versions.
        model_versions: (n,) their numbers.
    """

    methods: Methods
    since: npt.NDArray[np.int64]
    fits: Versions
    model_ids: npt.NDArray[np.void]
    model_versions: npt.NDArray[np.int32]

    @classmethod
    def by(cls, methods: Methods) -> "Serving":
        """Methods alone, nothing pinned."""
        n = len(methods)
        ids = np.zeros(n, dtype="V16")
        return cls(methods, np.full(n, NEVER), versions.none(n), ids, np.zeros(n, dtype=np.int32))

    @classmethod
    def prophet(cls, n: int) -> "Serving":
        """Prophet's method for all: what serves where nobody has chosen."""
        return cls.by(np.full(n, PROPHET, dtype=np.int8))

    def of(self, rows: Bools | npt.NDArray[np.intp]) -> "Serving":
        """Of some templates."""
        return Serving(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """(n,) another number for another choice: below 2^52, so that it is a float as well."""
        of_pins = np.ascontiguousarray(self.model_ids).view("<u8").reshape(-1, 2)[:, 0] >> np.uint64(12)
        return self.methods.astype(np.int64) + np.where(self.since < NEVER, of_pins.astype(np.int64), 0)

    def pinned(self, day: date) -> Bools:
        """(n,) which templates a pinned version serves in the week that begins on a day."""
        pinned: Bools = self.since <= day.toordinal()
        return pinned
