"""Records a second: how fast one tenant may push through this process, so that one can't crowd out the others.

A batch is paid for after it has landed: until then its tenant is let in, and after that it waits as long as its records
take at the tenant's rate. So a batch of any size lands whole, and the rate holds over any longer time.
"""

import math
import threading
from datetime import datetime, timedelta
from http import HTTPStatus

from gateway.problems import ProblemError
from storage.clock import Clock


class Rates:
    """The pace of all tenants; `records_a_second` None lets everybody in."""

    def __init__(self, records_a_second: int | None, clock: Clock) -> None:
        self._rate = records_a_second
        self._clock = clock
        self._lock = threading.Lock()
        self._paid_at: dict[str, datetime] = {}

    def require(self, tenant_id: str) -> None:
        """Go on only if the tenant's records so far are paid for.

        Raises:
            ProblemError: 429, with the seconds to wait.
        """
        with self._lock:
            wait = self._paid_at.get(tenant_id, self._clock.now()) - self._clock.now()
        if wait > timedelta(0):
            detail = f"you push faster than {self._rate} records a second; nothing of this was landed"
            headers = {"Retry-After": str(math.ceil(wait.total_seconds()))}
            raise ProblemError(HTTPStatus.TOO_MANY_REQUESTS, detail, headers=headers, records_a_second=self._rate)

    def spend(self, tenant_id: str, records: int) -> None:
        """Charge the tenant for records that were judged."""
        if self._rate is not None:
            with self._lock:
                start = max(self._paid_at.get(tenant_id, self._clock.now()), self._clock.now())
                self._paid_at[tenant_id] = start + timedelta(seconds=records / self._rate)
