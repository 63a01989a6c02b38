"""One push: batches in their order, the sum of their results, and what becomes of the rest when one fails.

Belongs here: the way of an iterable. Does not belong here: the queue's (`outbox`), one batch's (`delivery`).
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from itertools import chain

from tidemark_client.batches import Batch
from tidemark_client.delivery import Delivery
from tidemark_client.encoding import Record
from tidemark_client.errors import DeliveryError
from tidemark_client.results import PushResult


@dataclass
class Push:
    """A push under way.

    Attributes:
        delivery: sends a batch.
        stop: ends all waiting.
        until: the monotonic time at which to give up, if there is one.
        told: called with each answer's result.
        total: the sum so far.
    """

    delivery: Delivery
    stop: threading.Event
    until: float | None
    told: Callable[[PushResult], None]
    total: PushResult = field(default_factory=PushResult)

    def run(self, batches: Iterator[Batch]) -> tuple[DeliveryError, Batch] | None:
        """Send every batch; or the failure that ended it, and what is unsent of the batch that met it."""
        for batch in batches:
            try:
                for part in self.delivery.deliver(batch, self.stop, until=self.until):
                    self.total.add(part)
                    self.told(part)
            except DeliveryError as failure:
                return failure, batch.after(self.total.records)
        return None

    def keep(
        self,
        failure: DeliveryError,
        unsent: Batch,
        batches: Iterator[Batch],
        offer: Callable[[Sequence[bytes]], int] | None,
        records: Iterable[Record],
    ) -> DeliveryError:
        """Put what is unsent where it is kept, as far as it fits; the failure, which knows how many records that was.

        Args:
            failure: what ended the push.
            unsent: of the batch that met it.
            batches: the rest, which is read only as far as it is kept.
            offer: takes lines and tells how many it took; None if there is nowhere to keep them.
            records: what was pushed.
        """
        count, kept, unread = unsent.records, 0, True
        if offer:
            for batch in chain([unsent], batches):
                count += 0 if batch is unsent else batch.records
                taken = offer(batch.lines)
                kept += taken
                if taken < len(batch):
                    break
            else:
                unread = False
        if isinstance(records, Sized):
            count, unread = len(records) - self.total.records, False
        return failure.counting(self.total, count, kept, unread)
