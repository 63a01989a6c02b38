"""`/v1/silences`: times during which matching alerts notify nobody, and what each of them kept back."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from assets.evaluations.record_fields import Text200, Time
from gateway.acting import acting
from gateway.admin_bodies import Body, body_of, documented_body
from gateway.answers import documented_answer, documented_page, json_answer, page_answer
from gateway.in_flight import InFlight
from gateway.keyring import Guard
from gateway.listings import IDENTIFIER, MOMENT, Listing, Parameter, one_of
from gateway.matcher_bodies import MatcherBodies, matchers_of
from gateway.pages import page_of, seeing
from gateway.parameters import read_query
from gateway.problems import READ_REFUSALS, WRITE_REFUSALS, documented
from sensors.alerts.silences import create_silence, end_silence, list_silences, list_suppressed
from storage.api_keys import ApiKey
from storage.clock import Clock
from storage.pool import Pool

_LISTING = Listing(
    name="silences",
    summary="The tenant's silences, the last to begin first.",
    order=(("starts_at", MOMENT), ("silence_id", IDENTIFIER)),
    filters=(Parameter("state", one_of("pending", "active", "ended"), "Only these."),),
)
_MEMBERS = ("silence_id", "matchers", "starts_at", "ends_at", "author", "comment", "created_at", "state", "suppressed")

_SUPPRESSED = Listing(
    name="suppressed",
    summary="What a silence kept back, the newest first, and what became of it.",
    order=(("suppression_id", IDENTIFIER),),
)


class NewSilence(Body):
    """A silence to set: it holds for alerts that every matcher fits."""

    matchers: MatcherBodies
    starts_at: Annotated[Time | None, Field(description="Now, if not given.")] = None
    ends_at: Time
    author: Annotated[Text200 | None, Field(description="The key, if nobody is named.")] = None
    comment: Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")] = ""


def silence_routes(pool: Pool, reader: Guard, admin: Guard, clock: Clock, budget: InFlight) -> APIRouter:
    """The routes, for keys that `reader` lets pass and, where something changes, `admin`."""
    router = APIRouter(prefix="/v1/silences", tags=["alerts"])
    Admin = Annotated[ApiKey, Depends(admin)]

    @router.get("", **documented_page(_LISTING))
    def find(request: Request, key: Annotated[ApiKey, Depends(reader)]) -> Response:
        query = read_query(_LISTING, key.tenant_id, request.query_params.multi_items())
        after: tuple[datetime, UUID] | None = None
        if query.after is not None:
            after = (query.after["starts_at"], query.after["silence_id"])
        with seeing(pool, key.tenant_id) as connection:
            rows = list_silences(
                connection,
                key.tenant_id,
                now=clock.now(),
                state=query.values.get("state"),
                after=after,
                limit=query.limit + 1,
            )
        return page_answer(page_of(_LISTING, query, rows))

    @router.get("/{silence_id}/suppressed", **documented_page(_SUPPRESSED, HTTPStatus.NOT_FOUND))
    def suppressed(silence_id: UUID, request: Request, key: Annotated[ApiKey, Depends(reader)]) -> Response:
        query = read_query(_SUPPRESSED, key.tenant_id, request.query_params.multi_items(), str(silence_id))
        after = query.after["suppression_id"] if query.after is not None else None
        with seeing(pool, key.tenant_id) as connection:
            rows = list_suppressed(connection, key.tenant_id, silence_id, after=after, limit=query.limit + 1)
        return page_answer(page_of(_SUPPRESSED, query, rows))

    @router.post(
        "",
        summary="Set a silence. What it keeps back is told when it ends, if it still fires then.",
        status_code=HTTPStatus.CREATED,
        response_class=Response,
        responses=documented_answer("The silence.", *_MEMBERS, status=HTTPStatus.CREATED) | WRITE_REFUSALS,
        openapi_extra={"requestBody": documented_body(NewSilence)},
    )
    def create(key: Admin, body: Annotated[NewSilence, Depends(body_of(NewSilence, budget))]) -> Response:
        with acting(pool, key) as connection:
            row = create_silence(
                connection,
                key.tenant_id,
                matchers_of(body.matchers),
                starts_at=body.starts_at,
                ends_at=body.ends_at,
                author=body.author or f"key:{key.key_id}",
                comment=body.comment,
                now=clock.now(),
            )
        return json_answer(row, HTTPStatus.CREATED)

    @router.delete(
        "/{silence_id}",
        summary="End a silence; one that has not begun is withdrawn.",
        status_code=HTTPStatus.NO_CONTENT,
        response_class=Response,
        responses=READ_REFUSALS | documented(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
    def end(silence_id: UUID, key: Admin) -> Response:
        with acting(pool, key) as connection:
            end_silence(connection, key.tenant_id, silence_id, now=clock.now())
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return router
