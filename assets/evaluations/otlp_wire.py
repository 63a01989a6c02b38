"""What the two encodings of OTLP have in common: what comes out of reading a request, and why it can't be read."""

from typing import NamedTuple

from assets.evaluations.contract import Refused
from assets.evaluations.otlp_mapping import EVENT_NAME, Event

TRACE_ID_BYTES, SPAN_ID_BYTES = 16, 8
_EVENT_NAME = EVENT_NAME.encode()


class UnreadableError(Exception):
    """A request whose log records can't even be told apart; the message says why."""


class TooManyError(Exception):
    """A request with more parts than are read at once."""


class Census:
    """Counts resources, scopes and log records, so that empty ones without end cost no more than full ones.

    Attributes:
        most: how many are read.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._counted = 0

    def count(self) -> None:
        """One more.

        Raises:
            TooManyError: it is one too many.
        """
        self._counted += 1
        if self._counted > self.most:
            raise TooManyError


class LogRecord(NamedTuple):
    """One log record of a request.

    Attributes:
        payload: its bytes, exactly as sent.
        event: the evaluation that it tells, why it can't be read although it is one, or None: another kind of log.
    """

    payload: bytes
    event: Event | Refused | None


def unreadable(payload: bytes, why: Refused) -> LogRecord:
    """A record that can't be read: a refused evaluation if the event's name is in its bytes, else another log."""
    return LogRecord(payload, why if _EVENT_NAME in payload else None)


def can_be_event(payload: bytes) -> bool:
    """Whether the event's name is in these bytes of protobuf, where a string is written as it is."""
    return _EVENT_NAME in payload


def hexadecimal(identifier: bytes, length: int) -> str:
    """A trace's or a span's identifier; empty if it is none, as OpenTelemetry wants wrong ones treated."""
    return identifier.hex() if len(identifier) == length and any(identifier) else ""
