"""Every error as a problem document (RFC 9457): one form for our own refusals and for the framework's.

Belongs here: which exception becomes which status. Does not belong here: who raises them.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import psycopg
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from storage.errors import DatabaseUnavailableError, UsageError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5

_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"parameter": {"type": "string"}, "reason": {"type": "string"}},
            },
        },
    },
}


class ProblemError(Exception):
    """A request that can't be answered as asked; becomes a problem document with these members."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None, **members: object
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members


class BadParametersError(ProblemError):
    """Query parameters that can't be used; `problems` are pairs of parameter and reason."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        detail = "; ".join(f"{parameter}: {reason}" for parameter, reason in problems)
        errors = [{"parameter": parameter, "reason": reason} for parameter, reason in problems]
        super().__init__(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def unavailable(detail: str, retry_after: int = RETRY_AFTER_SECONDS, **members: object) -> ProblemError:
    """503: the request is right and may be sent again after so many seconds."""
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(retry_after)}, **members)


def documented(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of these statuses."""
    content = {MEDIA_TYPE: {"schema": _SCHEMA}}
    return {status.value: {"description": status.phrase, "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document, but for faults of our own: `observation` answers those."""
    app.add_exception_handler(ProblemError, _own)
    app.add_exception_handler(UsageError, _usage)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _invalid)
    for away in (DatabaseUnavailableError, psycopg.OperationalError):
        app.add_exception_handler(away, _database_away)


def problem_response(problem: ProblemError) -> Response:
    """The problem as an answer."""
    body = {
        # No pages of their own: the status and the detail say it all.
        "type": "about:blank",
        "title": problem.status.phrase,
        "status": problem.status.value,
        "detail": problem.detail,
        **problem.members,
    }
    return Response(orjson.dumps(body), problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def _own(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101 - Starlette's signature knows plain exceptions only
    return problem_response(error)


def _usage(_request: Request, error: Exception) -> Response:
    return problem_response(ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)))


def _framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    status = HTTPStatus(error.status_code)
    details = {
        HTTPStatus.NOT_FOUND: "there is nothing at this path; /openapi.json lists what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not possible here",
    }
    return problem_response(ProblemError(status, details.get(status, str(error.detail)), headers=error.headers))


def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    # The location and the message alone: what was sent may be a secret.
    issues = [(".".join(str(part) for part in issue["loc"][1:]), str(issue["msg"])) for issue in error.errors()]
    return problem_response(BadParametersError(issues))


def _database_away(_request: Request, _error: Exception) -> Response:
    return problem_response(unavailable("the database does not answer, or is too busy; nothing was acknowledged"))
