"""The client: what a pipeline imports, and all it needs to know."""

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tidemark_client.arguments import require_between, require_key, server_url
from tidemark_client.batches import in_batches
from tidemark_client.clock import Clock
from tidemark_client.delivery import Delivery
from tidemark_client.encoding import MOST_BYTES_A_RECORD, Record, identified, to_line, with_id
from tidemark_client.errors import (
    DeliveryError,
    InvalidRecordError,
    RecordsRejectedError,
    SpoolError,
    TidemarkClientError,
    counted,
    was,
)
from tidemark_client.exchange import Exchange
from tidemark_client.outbox import CLOSED, Outbox, Rhythm, WhenFull
from tidemark_client.patience import Patience
from tidemark_client.pushing import Push
from tidemark_client.queues import MemoryQueue, Queue
from tidemark_client.results import Problem, PushResult

MOST_RECORDS_A_BATCH = 10_000
MOST_BYTES_A_BATCH = MOST_BYTES_A_RECORD + 1

OnReject = Literal["raise"] | Callable[[Problem], object]

_log = logging.getLogger("tidemark_client")
_living: "weakref.WeakSet[Client]" = weakref.WeakSet()


class Client:
    """Sends evaluation records to a Tidemark server, and loses none.

    `push` sends an iterable now and returns what became of it. `record` and `enqueue` hand a record to a background
    thread and return at once. Threads may share a client; a forked child gets a queue and connections of its own.

    A `with` block closes the client at its end. An outage that lasts until then raises, unless all that is unsent is in
    the spool: then it is a warning of the logger `tidemark_client`, and the next client of that spool sends it.

    Retries are safe: a server that has a record under its record_id knows it again. A record without one is known by
    its content (`push`), or is given one (`enqueue`).
    """

    _exchange: Exchange
    _delivery: Delivery
    _outbox: Outbox | None
    _stop: threading.Event
    _lock: threading.Lock
    _since_flush: PushResult
    _closed: bool
    _closes_at_exit: bool

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        spool: str | os.PathLike[str] | None = None,
        spool_bytes: int = 256 * 1024 * 1024,
        memory_bytes: int = 32 * 1024 * 1024,
        when_full: WhenFull = "block",
        flush_interval: float = 1.0,
        timeout: float = 30.0,
        deadline: float = 300.0,
        max_attempts: int = 20,
        close_timeout: float = 10.0,
        batch_records: int = 1000,
        batch_bytes: int = 4 * 1024 * 1024,
        gzip: bool = True,
        on_reject: OnReject = "raise",
        clock: Clock | None = None,
    ) -> None:
        """Make a client; nothing is sent yet, unless the spool holds records of an earlier one.

        Args:
            url: the server's, such as `https://tidemark.example.com`.
            api_key: of scope ingest.
            spool: a directory in which enqueued records survive the process, and which no other client uses. A record
                is safe from `kill -9` when `enqueue` returns, and from a loss of power about a second later. What an
                earlier process left there is sent first. Needs a POSIX system and a local disk.
            spool_bytes: the spool's size on disk at most.
            memory_bytes: the queue's size at most where there is no spool.
            when_full: `enqueue` waits for room ("block"), or raises QueueFullError ("raise").
            flush_interval: seconds after which an enqueued record is sent though its batch is not full.
            timeout: seconds for one request.
            deadline: seconds for one batch with all its retries and waits.
            max_attempts: how often one batch is tried.
            close_timeout: seconds that `close`, and the end of the block or the process, wait for what is queued.
            batch_records: a request's records, 1 to 10,000.
            batch_bytes: a request's bytes before gzip, up to 8 MiB; a 413 halves a batch, so a proxy that admits less
                costs a detour.
            gzip: whether requests are packed.
            on_reject: "raise", or a function called with each `Problem`, for `enqueue` from the sender's thread.
            clock: another time than the system's.

        Raises:
            ValueError: an argument can't be; the message names it.
            SpoolError: the spool is in use, or can't be used.
        """
        self._url = server_url(url)
        require_key(api_key)
        require_between(1, MOST_RECORDS_A_BATCH, batch_records=batch_records)
        require_between(1, MOST_BYTES_A_BATCH, batch_bytes=batch_bytes)
        require_between(1, max_attempts=max_attempts)
        require_between(0.001, timeout=timeout, deadline=deadline, flush_interval=flush_interval)
        self._spool = None if spool is None else Path(spool)
        self._capacity = memory_bytes if spool is None else spool_bytes
        self._rhythm = Rhythm(batch_records, batch_bytes, flush_interval)
        self._when_full: WhenFull = when_full
        self._close_timeout = close_timeout
        self._on_reject = on_reject
        self._clock = clock or Clock()
        self._patience = Patience(deadline, max_attempts, self._clock)
        # A closure, so that nothing of the client shows the key in its repr.
        self._connect: Callable[[], Exchange] = lambda: Exchange(self._url, api_key, timeout, gzip)
        self._begin(self._open_queue())
        _living.add(self)

    def push(
        self,
        records: Iterable[Record],
        *,
        idempotent: bool = True,
        deadline: float | None = None,
        on_batch: Callable[[PushResult], object] | None = None,
    ) -> PushResult:
        """Send records now, in batches, and return when all have been judged and what is good is committed.

        Args:
            records: mappings, or JSON documents in bytes, which are sent as they are; read as a stream.
            idempotent: a record without record_id is known by its content, so that pushing the same again changes
                nothing. False: each mapping without one is given a new one, so that equal records count each.
            deadline: seconds for the whole push, besides the client's for each batch.
            on_batch: called with the result so far after each answer.

        Raises:
            RecordsRejectedError: everything was sent and some of it refused, unless the client has another on_reject.
            AuthenticationError: the key is refused.
            DeliveryError: the server did not take it. With a spool, what is unsent is kept there as far as it fits.
        """
        if self._closed:
            raise RuntimeError(CLOSED)
        if isinstance(records, Mapping | bytes | str):
            raise TypeError("push takes an iterable of records: put a single one into a list")
        until = None if deadline is None else self._clock.monotonic() + deadline

        total = PushResult()

        def told(result: PushResult) -> None:
            self._tell(result)
            if on_batch:
                on_batch(total)

        push = Push(self._delivery, self._stop, until, told, total)
        stream = records if idempotent else map(identified, records)
        batches = in_batches(stream, self._rhythm.records, self._rhythm.bytes)
        ended = push.run(batches)
        if ended:
            offer = self._outbox.offer if self._spool and self._outbox else None
            raise push.keep(*ended, batches, offer, records)
        if total.refused and self._on_reject == "raise":
            raise RecordsRejectedError(total)
        return total

    def record(self, **fields: object) -> str:
        """Queue an evaluation that was just made, by the names of its fields; see `enqueue`."""
        return self.enqueue(fields)

    def enqueue(self, record: Mapping[str, object]) -> str:
        """Hand a record to the background thread, and return its record_id at once.

        Args:
            record: gets a record_id of its own if it has none, and the present time as created_at.

        Raises:
            InvalidRecordError: it can't be sent; the error names the field.
            QueueFullError: there is no room and the client does not wait for it, or waiting is in vain.
            SpoolError: the disk refused it, or this process was forked from the one that owns the spool.
        """
        if not isinstance(record, Mapping):
            raise InvalidRecordError(None, "type", f"is a {type(record).__name__}: give a mapping")
        fields = with_id(record)
        if fields.get("created_at") is None:
            fields = {**fields, "created_at": self._clock.now()}
        line = to_line(fields)
        outbox = self._own_outbox()
        if not self._closes_at_exit:
            self._closes_at_exit = True
            atexit.register(self._close_at_exit)
        outbox.append(line)
        return str(fields["record_id"])

    @property
    def pending(self) -> int:
        """How many queued records are not answered yet."""
        return self._outbox.pending if self._outbox else 0

    def flush(self, timeout: float | None = None) -> PushResult:
        """Wait until everything queued so far is answered; what became of it since the last flush, without batch ids.

        Args:
            timeout: seconds; if None, until the sender gives up.

        Raises:
            RecordsRejectedError: some of it was refused, unless the client has another on_reject.
            AuthenticationError: the key is refused.
            DeliveryError: the server did not take it in time. It stays queued.
        """
        self._own_outbox().flush(timeout)
        return self._judged()

    def close(self, timeout: float | None = None) -> PushResult:
        """Flush, and end the background thread. Without a spool, what is not answered by then is given up.

        Args:
            timeout: seconds; the client's close_timeout if None.

        Raises:
            RecordsRejectedError: as `flush`.
            DeliveryError: as `flush`; it tells whether the records are kept.
        """
        if self._closed:
            return PushResult()
        self._closed = True
        atexit.unregister(self._close_at_exit)
        try:
            if self._outbox:
                self._outbox.close(self._close_timeout if timeout is None else timeout)
        except DeliveryError as failure:
            raise failure.counting(self._since_flush, failure.unsent, failure.kept) from None
        finally:
            self._stop.set()
            self._exchange.close()
        return self._judged()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except TidemarkClientError as failure:
            # A block that ends in success, if by sys.exit(), must not seem to be one.
            succeeds = error is None or (isinstance(error, SystemExit) and not error.code)
            # Only an outage passes by itself, and what was refused before it is told all the same.
            if type(failure) is DeliveryError and 0 < failure.unsent <= failure.kept:
                _log.warning("closing: %s", failure)
                if succeeds and failure.result.refused and self._on_reject == "raise":
                    raise RecordsRejectedError(failure.result) from None
            elif succeeds:
                raise
            else:
                # The block's own error is the one to see.
                _log.error("closing: %s", failure)

    def __repr__(self) -> str:
        return f"Client({str(self._url)!r})"

    def _begin(self, queue: Queue | None) -> None:
        """Make all that belongs to one process: connections, locks, the sender."""
        self._exchange = self._connect()
        self._delivery = Delivery(self._exchange, self._patience)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._since_flush = PushResult()
        self._closed = self._closes_at_exit = False
        self._outbox = None
        if queue is not None:
            self._outbox = Outbox(
                queue,
                self._delivery,
                self._rhythm,
                self._clock,
                when_full=self._when_full,
                survives=self._spool is not None,
                told=self._collect,
            )

    def _open_queue(self) -> Queue:
        if self._spool is None:
            return MemoryQueue(self._capacity)
        # Locks of files are POSIX's: elsewhere the rest of the client works.
        from tidemark_client.spool import Spool

        return Spool(self._spool, self._capacity)

    def _in_child(self) -> None:
        """After a fork: what is queued is the parent's to send, and its connections are not to be shared."""
        closed = self._closed
        if self._outbox and not closed:
            self._outbox.abandon()
        self._begin(MemoryQueue(self._capacity) if self._spool is None else None)
        self._closed = closed

    def _own_outbox(self) -> Outbox:
        if self._outbox is None:
            raise SpoolError(
                f"this process was forked from the one that owns the spool {self._spool}: "
                "make a client in it, with a spool of its own"
            )
        return self._outbox

    def _tell(self, result: PushResult) -> None:
        if callable(self._on_reject):
            for problem in result.problems:
                self._on_reject(problem)

    def _collect(self, result: PushResult) -> None:
        """Take a result of the background thread."""
        with self._lock:
            # Without the ids, of which a process that never flushes would gather too many.
            self._since_flush.add(replace(result, batches=[]))
        if callable(self._on_reject):
            self._tell(result)
        elif result.problems:
            refused = f"{counted(result.refused)} {was(result.refused)} refused"
            _log.warning("from the queue %s, the first: %s", refused, result.problems[0])

    def _judged(self) -> PushResult:
        with self._lock:
            result, self._since_flush = self._since_flush, PushResult()
        if result.refused and self._on_reject == "raise":
            raise RecordsRejectedError(result)
        return result

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except TidemarkClientError as error:
            _log.error("at the process's end: %s", error)


def _renew_in_child() -> None:
    for client in list(_living):
        client._in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_in_child)
