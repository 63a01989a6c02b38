"""`/v1/webhooks/deliveries` and those of one endpoint: what was sent, and sending it again, one or all of a kind."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from assets.evaluations.record_fields import Text200, Time
from gateway.acting import acting
from gateway.admin_bodies import Body, body_of, documented_body
from gateway.answers import documented_answer, documented_page, json_answer, page_answer
from gateway.in_flight import InFlight
from gateway.keyring import Guard
from gateway.listings import IDENTIFIER, TEXT, TIME, Listing, Parameter, one_of
from gateway.pages import page_of
from gateway.parameters import read_query
from gateway.problems import READ_REFUSALS, WRITE_REFUSALS, documented
from sensors.webhooks.deliveries import STATES, Selection, list_deliveries
from sensors.webhooks.replays import replay_deliveries, replay_delivery
from storage.api_keys import ApiKey
from storage.clock import Clock
from storage.pool import Pool

_FILTERS = (
    Parameter("state", one_of(*STATES), "Only these; `failed` are the dead letters."),
    Parameter("event_type", TEXT, "Only deliveries of such events."),
    Parameter("since", TIME, "Queued at this time or later."),
    Parameter("until", TIME, "Queued before this time."),
)
_OF_ONE = Listing(
    name="deliveries",
    summary="An endpoint's deliveries with what the last attempt brought, the newest first.",
    order=(("delivery_id", IDENTIFIER),),
    filters=_FILTERS,
)
_OF_ALL = Listing(
    name="all_deliveries",
    summary="Deliveries to all of the tenant's endpoints with what the last attempt brought, the newest first.",
    order=(("delivery_id", IDENTIFIER),),
    filters=_FILTERS,
)


class Replay(Body):
    """Which deliveries to send again."""

    state: Annotated[Literal["failed", "delivered", "cancelled"], Field(description="Only these.")] = "failed"
    webhook_id: Annotated[UUID | None, Field(strict=False, description="Only to this endpoint.")] = None
    event_type: Annotated[Text200 | None, Field(description="Only of such events.")] = None
    since: Annotated[Time | None, Field(description="Queued at this time or later.")] = None
    until: Annotated[Time | None, Field(description="Queued before this time.")] = None
    key: Annotated[
        Text200 | None,
        Field(
            description="Names this replay: none of the deliveries is sent again twice with it. `delivered` needs one."
        ),
    ] = None
    dry_run: Annotated[bool, Field(description="Only count.")] = False


def delivery_routes(pool: Pool, admin: Guard, clock: Clock, budget: InFlight) -> APIRouter:
    """The routes, for keys that `admin` lets pass; to be asked before those of endpoints, which take any last part."""
    router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], responses=READ_REFUSALS)
    Key = Annotated[ApiKey, Depends(admin)]

    @router.get("/deliveries", **documented_page(_OF_ALL))
    def find_all(request: Request, key: Key) -> Response:
        return _page(pool, _OF_ALL, request, key)

    @router.get("/{webhook_id}/deliveries", **documented_page(_OF_ONE, HTTPStatus.NOT_FOUND))
    def find(webhook_id: UUID, request: Request, key: Key) -> Response:
        return _page(pool, _OF_ONE, request, key, webhook_id)

    @router.post(
        "/deliveries/replay",
        summary="Send again all deliveries of a kind, at most 10,000, each with its identifier and its bytes.",
        status_code=HTTPStatus.ACCEPTED,
        response_class=Response,
        responses=documented_answer(
            "How many are queued, how many no longer have a body, how many are left to another call.",
            "queued",
            "without_body",
            "left",
            status=HTTPStatus.ACCEPTED,
        )
        | WRITE_REFUSALS
        | documented(HTTPStatus.NOT_FOUND),
        openapi_extra={"requestBody": documented_body(Replay)},
    )
    def replay_many(key: Key, body: Annotated[Replay, Depends(body_of(Replay, budget))]) -> Response:
        chosen = Selection(**body.model_dump(exclude={"key", "dry_run"}))
        with acting(pool, key) as connection:
            replayed = replay_deliveries(
                connection, key.tenant_id, chosen, now=clock.now(), key=body.key, dry_run=body.dry_run
            )
        return json_answer(vars(replayed), HTTPStatus.ACCEPTED)

    @router.post(
        "/deliveries/{delivery_id}/replay",
        summary="Send a delivery again, with the same identifier and the same bytes.",
        status_code=HTTPStatus.ACCEPTED,
        response_class=Response,
        responses=documented_answer(
            "`queued` is false if it is waiting to be sent anyway.",
            "delivery_id",
            "queued",
            status=HTTPStatus.ACCEPTED,
        )
        | documented(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
    def replay(delivery_id: UUID, key: Key) -> Response:
        with acting(pool, key) as connection:
            queued = replay_delivery(connection, key.tenant_id, delivery_id, now=clock.now())
        return json_answer({"delivery_id": delivery_id, "queued": queued}, HTTPStatus.ACCEPTED)

    return router


def _page(pool: Pool, listing: Listing, request: Request, key: ApiKey, webhook_id: UUID | None = None) -> Response:
    within = () if webhook_id is None else (str(webhook_id),)
    query = read_query(listing, key.tenant_id, request.query_params.multi_items(), *within)
    values: Mapping[str, Any] = query.values
    after = query.after["delivery_id"] if query.after else None
    with acting(pool, key) as connection:
        rows = list_deliveries(
            connection, key.tenant_id, Selection(webhook_id, **values), after=after, limit=query.limit + 1
        )
    return page_answer(page_of(listing, query, rows))
