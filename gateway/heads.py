"""Heads of requests: bounded in bytes and in time, which uvicorn leaves to a proxy that may not be there.

Without it whoever reaches the port, with a key or without, could fill the memory by one header without an end, and hold
every connection that the process may have by sending nothing. Bodies are bounded by `bodies`, idle connections between
requests by uvicorn.
"""

from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_BYTES = 64 * 1024
SECONDS = 10.0


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's protocol of HTTP/1.1, whose every head has to arrive in time and within its bytes."""

    _head: TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what is of a head and of nothing else: a part that came after its beginning, and did not end it."""
        head = self._head
        super().data_received(data)
        if head is not None and head is self._head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_BYTES:
                self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        if self._head is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        """A head has ended."""
        self._stop_waiting()
        super().on_headers_complete()

    def _wait_for_head(self) -> None:
        self._head_bytes = 0
        self._head = self.loop.call_later(SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _give_up(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_for_head()  # the request before is being answered; reading is paused meanwhile
        else:
            self.transport.close()
