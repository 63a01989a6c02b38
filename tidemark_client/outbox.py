"""The background sender: takes records from many threads, and sends them from one by count, bytes or age.

Belongs here: when a batch goes out, who waits for what. Does not belong here: how it goes out (`delivery`), where it
waits (`spool`, `queues`).
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tidemark_client.batches import Batch
from tidemark_client.clock import Clock
from tidemark_client.delivery import Delivery
from tidemark_client.errors import DeliveryError, QueueFullError, TidemarkClientError
from tidemark_client.queues import Queue
from tidemark_client.results import PushResult

WhenFull = Literal["block", "raise"]

# After a failure that no retry helps, or that outlasted them all: long enough not to beat at a closed door.
PAUSE = 30.0

CLOSED = "the client is closed: make a new one"

_log = logging.getLogger("tidemark_client")


@dataclass(frozen=True)
class Rhythm:
    """When a batch goes out.

    Attributes:
        records: at this count.
        bytes: at this size, unpacked.
        interval: after so many seconds at the latest.
    """

    records: int
    bytes: int
    interval: float


class Outbox:
    """A queue with its sender."""

    def __init__(
        self,
        queue: Queue,
        delivery: Delivery,
        rhythm: Rhythm,
        clock: Clock,
        *,
        when_full: WhenFull,
        survives: bool,
        told: Callable[[PushResult], None],
    ) -> None:
        """Make one; it starts sending at once if the queue has something from before.

        Args:
            queue: owned from now on.
            delivery: sends a batch.
            rhythm: when to.
            clock: the time.
            when_full: whether `append` waits for room or raises.
            survives: whether the queue outlives the process.
            told: called with each answer's result, from the sender's thread.
        """
        self._queue = queue
        self._delivery = delivery
        self._rhythm = rhythm
        self._clock = clock
        self._when_full = when_full
        self._survives = survives
        self._told = told
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: TidemarkClientError | None = None
        # Why the last attempt at what is under way was in vain; the sender has not given up.
        self._trouble = ""
        self._flushing = 0
        self._flushes = 0
        # How many flushes had begun when the newest attempt did.
        self._flushes_before = 0
        self._closed = False
        self._accepted = queue.pending
        self._finished = 0
        self._since = clock.monotonic()
        if queue.pending:
            self._start()

    @property
    def pending(self) -> int:
        """How many records wait or are under way."""
        with self._changed:
            return self._queue.pending

    def append(self, line: bytes) -> None:
        """Take a record.

        Raises:
            QueueFullError: there is no room, and `when_full` is "raise" or the sender can't go on.
            SpoolError: the disk refused.
        """
        self._append(line, self._when_full)

    def _append(self, line: bytes, when_full: WhenFull) -> None:
        with self._changed:
            while True:
                self._require_open()
                if self._queue.append(line):
                    break
                if when_full == "raise" or self._is_stuck():
                    why = f", and the sender can't go on: {self._failure}" if self._failure else ""
                    raise QueueFullError(f"{self._queue.pending:,} records wait; there is no room for this one{why}")
                self._changed.wait()
            if self._queue.pending == 1:
                self._since = self._clock.monotonic()
            self._accepted += 1
            if self._thread is None:
                self._start()
            # Not at each record: the sender sleeps until one of these, and a record a wake-up would cost it all.
            elif self._queue.pending == 1 or self._is_large():
                self._changed.notify_all()

    def offer(self, lines: Sequence[bytes]) -> int:
        """Take as many records as there is room for, without waiting; how many those were."""
        for count, line in enumerate(lines):
            try:
                self._append(line, "raise")
            except TidemarkClientError:
                return count
        return len(lines)

    def flush(self, timeout: float | None) -> None:
        """Return once everything that was taken before has been answered.

        Args:
            timeout: seconds; if None, until the sender gives up.

        Raises:
            DeliveryError: it has not been, in that time, or the sender gave up meanwhile.
            SpoolError: the disk refused.
        """
        with self._changed:
            self._require_open()
            self._queue.sync()
            goal = self._accepted
            self._failure = None
            self._flushing += 1
            self._flushes += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._finished >= goal or self._failure is not None, timeout)
                if self._finished < goal:
                    raise self._unfinished(timeout)
            finally:
                self._flushing -= 1

    def close(self, timeout: float) -> None:
        """Flush, then end the sender, whatever came of that.

        Raises:
            DeliveryError: as `flush`.
        """
        try:
            self.flush(timeout)
        finally:
            self._stop.set()
            with self._changed:
                self._changed.notify_all()
            # One that is amid a request is left behind: after `stop` it touches the queue no more.
            if self._thread is not None:
                self._thread.join(0.5)
            with self._changed:
                self._closed = True
                self._queue.close()

    def abandon(self) -> None:
        """Let go of it in a forked child, where neither its thread nor a held lock's holder exists."""
        self._queue.abandon()

    def _unfinished(self, timeout: float | None) -> TidemarkClientError:
        last = f"; the last attempt: {self._trouble}" if self._trouble else ""
        failure = self._failure or DeliveryError(f"not answered within {timeout:g} s{last}")
        if not isinstance(failure, DeliveryError):
            return failure
        waiting = self._queue.pending
        return failure.counting(PushResult(), waiting, waiting if self._survives else 0)

    def _require_open(self) -> None:
        if self._stop.is_set():
            raise RuntimeError(CLOSED)

    def _start(self) -> None:
        # A daemon, because a thread that isn't would keep the process from ending until the server is back.
        self._thread = threading.Thread(target=self._run, name="tidemark-client", daemon=True)
        self._thread.start()

    def _is_large(self) -> bool:
        return self._queue.pending >= self._rhythm.records or self._queue.pending_bytes >= self._rhythm.bytes

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            try:
                for result in self._delivery.deliver(batch, self._stop, failed=self._note_trouble):
                    self._finish(result)
            except TidemarkClientError as error:
                self._fail(error)
            except Exception as error:  # the thread's end would be the end of all sending
                if not self._stop.is_set():
                    _log.exception("the sender failed")
                self._fail(DeliveryError(f"the sender failed: {type(error).__name__}"))

    def _next(self) -> Batch | None:
        """The next batch, once it is time for it; None if there is to be none any more."""
        with self._changed:
            while not self._stop.is_set():
                waits = self._until_due()
                if waits is not None and waits <= 0:
                    self._flushes_before = self._flushes
                    try:
                        return Batch.of_queue(self._queue.peek(self._rhythm.records, self._rhythm.bytes))
                    except TidemarkClientError as error:
                        self._fail(error)
                else:
                    self._changed.wait(waits)
            return None

    def _until_due(self) -> float | None:
        if not self._queue.pending:
            return None
        if self._flushing or self._is_large():
            return 0.0
        return self._since + self._rhythm.interval - self._clock.monotonic()

    def _note_trouble(self, told: str) -> None:
        with self._changed:
            self._trouble = told

    def _finish(self, result: PushResult) -> None:
        try:
            self._told(result)
        except Exception:  # the caller's function; the records were answered whatever it does
            _log.exception("on_reject failed")
        with self._changed:
            if self._closed:
                return
            self._queue.advance(result.records)
            self._finished += result.records
            self._failure = None
            self._trouble = ""
            self._since = self._clock.monotonic()
            self._changed.notify_all()

    def _fail(self, error: TidemarkClientError) -> None:
        if self._stop.is_set():
            return
        _log.warning("%d records wait: %s", self.pending, error)
        with self._changed:
            if self._flushes != self._flushes_before:
                # Who flushes asks for an attempt from now on: that an older one was in vain says nothing of it.
                return
            self._failure = error
            self._changed.notify_all()
            # A flush takes the failure away, and with it the pause.
            self._changed.wait_for(lambda: self._stop.is_set() or self._failure is None, PAUSE)

    def _is_stuck(self) -> bool:
        """Whether waiting is in vain: the failure is none that passes when the server comes back."""
        return self._failure is not None and type(self._failure) is not DeliveryError
