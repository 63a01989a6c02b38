"""What a queue of records is to the sender, and the one that lives in memory."""

from collections import deque
from typing import Protocol

# What one record costs beside its bytes: the object's own.
_OVERHEAD = 64


class Queue(Protocol):
    """Records in the order of their arrival, bounded in bytes. Not thread-safe: the outbox holds a lock."""

    @property
    def pending(self) -> int:
        """How many records are in it."""
        ...

    @property
    def pending_bytes(self) -> int:
        """How many bytes those have."""
        ...

    def append(self, line: bytes) -> bool:
        """Take a record; False if there is no room.

        Raises:
            QueueFullError: there never will be: it is larger than the whole queue.
        """
        ...

    def peek(self, most_records: int, most_bytes: int) -> list[bytes]:
        """The oldest records, at least one if there is any; they stay."""
        ...

    def advance(self, count: int) -> None:
        """Forget so many of those that were peeked last, the oldest first."""
        ...

    def sync(self) -> None:
        """Make what was appended survive a loss of power, if the queue survives anything."""
        ...

    def close(self) -> None:
        """Let go of it; what is in it stays if it survives anything."""
        ...

    def abandon(self) -> None:
        """Let go of it in a forked child, without a trace in the parent's."""
        ...


class MemoryQueue:
    """A queue that ends with its process."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lines: deque[bytes] = deque()
        self._used = 0

    @property
    def pending(self) -> int:
        """How many records are in it."""
        return len(self._lines)

    @property
    def pending_bytes(self) -> int:
        """How many bytes those have."""
        return self._used - _OVERHEAD * len(self._lines)

    def append(self, line: bytes) -> bool:
        """Take a record; False if there is no room. One alone always has room."""
        size = len(line) + _OVERHEAD
        if self._lines and self._used + size > self._capacity:
            return False
        self._lines.append(line)
        self._used += size
        return True

    def peek(self, most_records: int, most_bytes: int) -> list[bytes]:
        """The oldest records; they stay."""
        lines: list[bytes] = []
        size = 0
        for line in self._lines:
            size += len(line) + 1
            if lines and (size > most_bytes or len(lines) >= most_records):
                break
            lines.append(line)
        return lines

    def advance(self, count: int) -> None:
        """Forget the oldest."""
        for _ in range(count):
            self._used -= len(self._lines.popleft()) + _OVERHEAD

    def sync(self) -> None:
        """Nothing survives."""

    def close(self) -> None:
        """Nothing is held."""

    def abandon(self) -> None:
        """Nothing is shared."""
