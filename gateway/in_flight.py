"""Back pressure: how many bytes of bodies the door holds at once; what does not fit is sent away before it is read.

Used from the event loop's one thread alone, so it needs no lock.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.problems import unavailable

# What a request costs however small it is: without it, empty requests would be unbounded.
LEAST_BYTES = 16 * 1024

_RETRY_AFTER_SECONDS = 1


class InFlight:
    """The door's budget of bytes."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.used = 0

    @contextmanager
    def reservation(self, size: int) -> Iterator["Reservation"]:
        """Hold so many bytes until the block ends.

        Raises:
            ProblemError: 503, the budget is spent.
        """
        reservation = Reservation(self)
        try:
            reservation.grow(max(size, LEAST_BYTES))
            yield reservation
        finally:
            reservation.free()


class Reservation:
    """One request's share of the budget."""

    def __init__(self, budget: InFlight) -> None:
        self._budget = budget
        self._held = 0

    def grow(self, size: int) -> None:
        """Hold at least so many bytes from now on.

        Raises:
            ProblemError: 503, the budget is spent.
        """
        more = size - self._held
        if more <= 0:
            return
        if self._budget.used + more > self._budget.most_bytes:
            detail = (
                f"the door holds {self._budget.used} bytes of other requests and may hold {self._budget.most_bytes}; "
                "nothing was landed, send this again"
            )
            raise unavailable(detail, _RETRY_AFTER_SECONDS)
        self._budget.used += more
        self._held = size

    def free(self) -> None:
        """Give everything back."""
        self._budget.used -= self._held
        self._held = 0
