"""Each request seen from outside: its correlation id, its one line in the log, its place in the metrics.

Belongs here: what is the same for all routes. Does not belong here: a key, a query string or a body; none of them is
ever logged.
"""

import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from gateway.metrics import Metrics
from gateway.problems import ProblemError, problem_response

CORRELATION_HEADER = "X-Correlation-ID"
# nginx's number for a client that went away; nobody is there to receive it.
CLIENT_GONE = 499

_log = structlog.get_logger()
_CORRELATION_ID = re.compile(r"[!-~]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")
_NOTES = "tidemark.notes"


@dataclass
class Notes:
    """What the parts of the door note about a request, for its line in the log.

    Attributes:
        tenant: whose key it had.
        facts: the rest: door, batch_id, bytes, records by verdict.
    """

    correlation_id: str
    tenant: str | None = None
    facts: dict[str, object] = field(default_factory=dict)


def notes_of(request: Request) -> Notes:
    """The notes of a request that came through `Observation`."""
    return cast(Notes, request.scope[_NOTES])


class Observation:
    """ASGI middleware around all routes; also what turns a fault of ours into an answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, watching."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        notes = Notes(_correlation_id(Headers(scope=scope)))
        scope[_NOTES] = notes
        started = time.perf_counter()
        status = CLIENT_GONE

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[CORRELATION_HEADER] = notes.correlation_id
            await send(message)

        with bound_contextvars(correlation_id=notes.correlation_id):
            try:
                await self._app(scope, receive, send_noted)
            except ClientDisconnect:
                status = CLIENT_GONE
            except Exception:
                _log.exception("the door failed")
                if status != CLIENT_GONE:
                    raise  # the answer has begun: all that is left is to cut it off
                await problem_response(_OUR_FAULT)(scope, receive, send_noted)
            finally:
                self._conclude(scope, notes, status, time.perf_counter() - started)

    def _conclude(self, scope: Scope, notes: Notes, status: int, seconds: float) -> None:
        # The template and not the path: identifiers in paths would make labels without end.
        route = getattr(scope.get("route"), "path_format", "unmatched")
        self._metrics.answered(route, scope["method"], status, seconds)
        tenant: Mapping[str, object] = {} if notes.tenant is None else {"tenant": notes.tenant}
        _log.info(
            "request",
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 1),
            **tenant,
            **notes.facts,
        )


_OUR_FAULT = ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "this is our fault; the server's log says more")


def _correlation_id(headers: Headers) -> str:
    given = headers.get(CORRELATION_HEADER, "")
    if _CORRELATION_ID.fullmatch(given):
        return given
    trace = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return trace[1] if trace else uuid.uuid4().hex
