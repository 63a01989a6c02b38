"""A batch through to its verdicts: retries where they help, halves where it is too large, an error where it ends."""

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

from tidemark_client.batches import Batch
from tidemark_client.errors import AuthenticationError, DeliveryError, RequestRefusedError
from tidemark_client.exchange import Answer, Exchange, NoAnswer
from tidemark_client.patience import Patience, seconds_of
from tidemark_client.results import PushResult, read_receipt, refused_unsent

EVALUATIONS = "/v1/evaluations"

_SERVER_ERRORS = 500
# 409: the attempt before, whose answer was lost on the way, is still in work.
_AGAIN = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}
_KEY_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_log = logging.getLogger("tidemark_client")

_JUDGED = {HTTPStatus.OK, HTTPStatus.MULTI_STATUS, HTTPStatus.UNPROCESSABLE_ENTITY}


@dataclass(frozen=True)
class Delivery:
    """Sends batches to one server."""

    exchange: Exchange
    patience: Patience

    def deliver(
        self,
        batch: Batch,
        stop: threading.Event,
        *,
        until: float | None = None,
        failed: Callable[[str], object] = lambda _: None,
    ) -> Iterator[PushResult]:
        """Send a batch, and tell the results of its parts in their order, as each is committed.

        Args:
            batch: records, or the problems of some, or both.
            stop: ends all waiting.
            until: the monotonic time at which to give up, if that is before the patience ends.
            failed: told why, before each wait for another attempt.

        Raises:
            AuthenticationError: the key is refused.
            RequestRefusedError: the request is, for another reason than its records.
            DeliveryError: the patience has ended. What was not told by then is unsent, or unconfirmed.
        """
        parts = [batch]
        while parts:
            part = parts.pop()
            if not part.lines:
                yield part.unsent
                continue
            answer = self._answer(part, stop, until, failed)
            if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and len(part) > 1:
                parts += reversed(part.halves())
            else:
                yield part.judged(_result(answer, part))

    def _answer(
        self, part: Batch, stop: threading.Event, until: float | None, failed: Callable[[str], object]
    ) -> Answer:
        content, headers = self.exchange.pack(part.body)
        # One for all attempts, so that one whose answer was lost is answered again and not carried out again.
        headers = {**headers, "Idempotency-Key": str(uuid.uuid4())}
        attempts = self.patience.begin(until, stop)
        while True:
            answer = self.exchange.send(EVALUATIONS, content, headers, attempts.remaining)
            if isinstance(answer, Answer) and answer.status not in _AGAIN and answer.status < _SERVER_ERRORS:
                return answer
            header = None if isinstance(answer, NoAnswer) else answer.headers.get("retry-after")
            asked = seconds_of(header, self.patience.clock.now())
            if asked is not None and asked > attempts.remaining:
                raise DeliveryError(f"{answer.told}; it asks for {asked:,.0f} s, which is beyond the deadline")
            failed(answer.told)
            _log.info("trying on for up to %.0f s: %s", attempts.remaining, answer.told)
            if not attempts.again(asked):
                times = "attempt" if attempts.made == 1 else "attempts"
                raise DeliveryError(f"gave up after {attempts.made} {times}; the last: {answer.told}")


def _result(answer: Answer, part: Batch) -> PushResult:
    if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return refused_unsent(part.indexes[0], None, "too_large", f"is too large: {answer.told}", part.lines[0])
    if answer.status in _KEY_REFUSED:
        raise AuthenticationError(f"{answer.told}. Give a key of scope ingest, from `tidemark key create`")
    receipt = read_receipt(answer.document, part.indexes, part.lines) if answer.status in _JUDGED else None
    if receipt is None:
        moved = answer.headers.get("location")
        where = f" and leads to {moved}: give the address it leads to" if moved else ""
        what = " without a receipt for each record: is the URL a Tidemark server's?"
        raise RequestRefusedError(answer.told + (what if answer.status < HTTPStatus.MULTIPLE_CHOICES else where))
    return receipt
