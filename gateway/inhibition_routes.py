"""`/v1/inhibitions`: rules by which one firing alert keeps others from being told."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from gateway.acting import acting
from gateway.admin_bodies import Body, body_of, documented_body
from gateway.answers import documented_answer, documented_page, json_answer, page_answer
from gateway.in_flight import InFlight
from gateway.keyring import Guard
from gateway.listings import IDENTIFIER, MOMENT, Listing
from gateway.matcher_bodies import MatcherBodies, matchers_of
from gateway.pages import page_of, seeing
from gateway.parameters import read_query
from gateway.problems import READ_REFUSALS, WRITE_REFUSALS, documented
from sensors.alerts.inhibitions import add_inhibition, page_of_inhibitions, remove_inhibition
from sensors.alerts.matchers import Label
from sensors.alerts.policy import Inhibition
from storage.api_keys import ApiKey
from storage.pool import Pool

_LISTING = Listing(
    name="inhibitions",
    summary="The tenant's inhibitions, the oldest first.",
    order=(("created_at", MOMENT), ("inhibition_id", IDENTIFIER)),
)


class NewInhibition(Body):
    """A rule to set: while an alert fires that every source matcher fits, those that every target matcher fits wait."""

    source_matchers: MatcherBodies
    target_matchers: MatcherBodies
    equal: Annotated[tuple[Label, ...], Field(max_length=5, description="Labels that must be the same on both.")] = ()


def inhibition_routes(pool: Pool, reader: Guard, admin: Guard, budget: InFlight) -> APIRouter:
    """The routes, for keys that `reader` lets pass and, where something changes, `admin`."""
    router = APIRouter(prefix="/v1/inhibitions", tags=["alerts"])
    Admin = Annotated[ApiKey, Depends(admin)]

    @router.get("", **documented_page(_LISTING))
    def find(request: Request, key: Annotated[ApiKey, Depends(reader)]) -> Response:
        query = read_query(_LISTING, key.tenant_id, request.query_params.multi_items())
        after: tuple[datetime, UUID] | None = None
        if query.after is not None:
            after = (query.after["created_at"], query.after["inhibition_id"])
        with seeing(pool, key.tenant_id) as connection:
            rows = page_of_inhibitions(connection, key.tenant_id, after=after, limit=query.limit + 1)
        return page_answer(page_of(_LISTING, query, rows))

    @router.post(
        "",
        summary="Set an inhibition; it holds from the next scan on.",
        status_code=HTTPStatus.CREATED,
        response_class=Response,
        responses=documented_answer("Its identifier.", "inhibition_id", status=HTTPStatus.CREATED)
        | WRITE_REFUSALS
        | documented(HTTPStatus.CONFLICT),
        openapi_extra={"requestBody": documented_body(NewInhibition)},
    )
    def create(key: Admin, body: Annotated[NewInhibition, Depends(body_of(NewInhibition, budget))]) -> Response:
        rule = Inhibition(matchers_of(body.source_matchers), matchers_of(body.target_matchers), body.equal)
        with acting(pool, key) as connection:
            inhibition_id = add_inhibition(connection, key.tenant_id, rule)
        return json_answer({"inhibition_id": inhibition_id}, HTTPStatus.CREATED)

    @router.delete(
        "/{inhibition_id}",
        summary="Remove an inhibition; what it keeps back is told if it still fires.",
        status_code=HTTPStatus.NO_CONTENT,
        response_class=Response,
        responses=READ_REFUSALS | documented(HTTPStatus.NOT_FOUND),
    )
    def remove(inhibition_id: UUID, key: Admin) -> Response:
        with acting(pool, key) as connection:
            remove_inhibition(connection, key.tenant_id, inhibition_id)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return router
