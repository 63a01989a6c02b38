"""`POST /v1/logs`: evaluation events from any OpenTelemetry SDK or Collector, by OTLP/HTTP.

Belongs here: the path, and from a body to lines. Does not belong here: encodings and attributes (`assets.evaluations`,
modules otlp_*), the form of answers (`otlp_answers`).
"""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from structlog.contextvars import bound_contextvars

from assets.evaluations.contract import Refused
from assets.evaluations.otlp_json import read_json
from assets.evaluations.otlp_mapping import MAPPING_VERSION, record_of
from assets.evaluations.otlp_protobuf import read_protobuf
from assets.evaluations.otlp_wire import Census, TooManyError, UnreadableError
from assets.evaluations.verdicts import Line, Problem
from gateway.bodies import MOST_RECORDS, media_type, too_large
from gateway.ingest_door import IngestDoor
from gateway.keyring import Guard
from gateway.observation import Notes, notes_of
from gateway.otlp_answers import PROTOBUF, accepted, refused
from gateway.otlp_openapi import ANSWERS, BODY
from gateway.problems import DATABASE_AWAY, ProblemError, database_away
from gateway.record_lines import JSON
from storage.api_keys import ApiKey

_DOOR = "otlp"
_SOURCE = f"OTLP, mapping version {MAPPING_VERSION}"


class _OtlpRoute(APIRoute):
    """A route whose every refusal, the key's too, is a Status and no problem document."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handle(request)
            except ProblemError as problem:
                return refused(request, problem)
            except DATABASE_AWAY:
                return refused(request, database_away())

        return answered


def otlp_routes(door: IngestDoor, pusher: Guard) -> APIRouter:
    """The route, for keys that `pusher` lets pass."""
    router = APIRouter(tags=["ingest"], responses=ANSWERS, route_class=_OtlpRoute)

    @router.post(
        "/v1/logs",
        summary="Land evaluation events of OpenTelemetry (OTLP/HTTP logs), protobuf or JSON, gzip allowed.",
        response_class=Response,
        openapi_extra=BODY,
    )
    async def push_logs(request: Request, key: Annotated[ApiKey, Depends(pusher)]) -> Response:
        form = media_type(request, (PROTOBUF, JSON))
        notes = notes_of(request)
        async with door.receive(request) as body:
            with bound_contextvars(tenant=key.tenant_id, door=_DOOR):
                problems = await door.in_turn(lambda: _land(door, key.tenant_id, notes, body, form))
        return accepted(form, problems)

    return router


def _land(door: IngestDoor, tenant_id: str, notes: Notes, body: bytes, form: str) -> tuple[Problem, ...]:
    lines, others = split_events(body, form)
    problems: tuple[Problem, ...] = ()
    if lines:
        judged = door.judge(tenant_id, "evaluations", lines)
        with door.connection() as connection:
            problems = door.land(connection, notes, judged, door=_DOOR, source=_SOURCE).problems
    # Not before: what could not be landed is sent again, the others with it.
    door.ignored(_DOOR, notes, others)
    return problems


def split_events(body: bytes, form: str) -> tuple[list[Line], int]:
    """The evaluations in a request, numbered by their place among all its log records, and how many others it has.

    Raises:
        ProblemError: 400 the body can't be read, 413 too many log records.
    """
    lines: list[Line] = []
    number = 0
    # Each log record may have a scope and a resource of its own.
    census = Census(3 * MOST_RECORDS)
    read = read_protobuf if form == PROTOBUF else read_json
    try:
        for number, (payload, event) in enumerate(read(body, census), 1):
            if number > MOST_RECORDS:
                raise too_large(f"the request has more than {MOST_RECORDS} log records", {"records": number})
            if isinstance(event, Refused):
                lines.append(Line(number, payload, refused=event))
            elif event is not None:
                lines.append(Line(number, payload, record=record_of(event)))
    except UnreadableError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"{error}; nothing was landed") from None
    except TooManyError:
        what = f"the request has more than {census.most} resources, scopes and log records"
        raise too_large(what, {"parts": census.most + 1}) from None
    return lines, number - len(lines)
