"""The client's errors. Each message says what is wrong and what to do; none holds the API key."""

from typing import Any, Self

from tidemark_client.results import PushResult

_SHOWN = 5


def counted(records: int) -> str:
    """So many records, in words."""
    return f"{records:,} {'record' if records == 1 else 'records'}"


def was(records: int) -> str:
    """The verb for so many."""
    return "was" if records == 1 else "were"


class TidemarkClientError(Exception):
    """Base of every error that the client raises on purpose."""


class InvalidRecordError(TidemarkClientError, ValueError):
    """A record that can't be sent, found before it was: which field, a stable code, and the reason in words."""

    def __init__(self, field: str | None, code: str, reason: str) -> None:
        super().__init__(f"{field or 'the record'}: {reason}")
        self.field = field
        self.code = code
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        # An error is pickled with its arguments, which BaseException takes for its message: worker processes raise it.
        return type(self), (self.field, self.code, self.reason)


class RecordsRejectedError(TidemarkClientError):
    """Everything was sent, and some of it was refused. `result` holds the counts and the problems."""

    def __init__(self, result: PushResult) -> None:
        shown = "; ".join(str(problem) for problem in result.problems[:_SHOWN])
        more = ", …" if result.refused > _SHOWN else ""
        others = "The others landed. " if result.records > result.refused else ""
        super().__init__(
            f"{result.refused:,} of {counted(result.records)} {was(result.refused)} refused: {shown}{more}. {others}"
            "Correct and send again what was refused; on_reject=a function of your own takes the problems instead of "
            "this error."
        )
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.result,)


class DeliveryError(TidemarkClientError):
    """The server did not take records, and the client gave up.

    Attributes:
        reason: what happened last.
        result: what landed before.
        unsent: how many records are unsent or unconfirmed, as far as they were read.
        kept: how many of those are in the spool, from where they will be sent.
        unread: whether there may be more, because the iterable was not read to its end.
    """

    def __init__(
        self, reason: str, result: PushResult | None = None, unsent: int = 0, kept: int = 0, unread: bool = False
    ) -> None:
        count = f"at least {unsent:,}" if unread else f"{unsent:,}"
        told = f"{count} {'record is' if unsent == 1 else 'records are'} unsent: " if unsent else ""
        verb = "is" if kept == 1 else "are"
        where = f" {kept:,} of them {verb} kept in the spool and will be sent from there." if kept else ""
        lost = " Send the others again: what has landed is recognized." if unsent > kept or unread else ""
        super().__init__(f"{told}{reason}.{where}{lost if kept else lost.replace('the others', 'them')}")
        self.reason = reason
        self.result = result or PushResult()
        self.unsent = unsent
        self.kept = kept
        self.unread = unread

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.result, self.unsent, self.kept, self.unread)

    def counting(self, result: PushResult, unsent: int, kept: int, unread: bool = False) -> Self:
        """The same error, which knows what landed and what did not."""
        return type(self)(self.reason, result, unsent, kept, unread)


class AuthenticationError(DeliveryError):
    """The API key opens nothing (401), or not this (403). No retry helps."""


class RequestRefusedError(DeliveryError):
    """The server refused the request itself, or what answers at the URL is no Tidemark server. No retry helps."""


class QueueFullError(TidemarkClientError):
    """Records come faster than they are delivered: the queue or spool has no room for this one, which was not taken."""


class SpoolError(TidemarkClientError):
    """The spool directory can't be used: another process has it, or the disk refused."""
