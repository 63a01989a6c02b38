"""`/v1/webhooks/{id}/deliveries` and replay: what was sent to an endpoint, and sending it again."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from gateway.acting import acting
from gateway.answers import documented_answer, documented_page, json_answer, page_answer
from gateway.keyring import Guard
from gateway.listings import IDENTIFIER, Listing, Parameter, one_of
from gateway.pages import page_of
from gateway.parameters import read_query
from gateway.problems import READ_REFUSALS, documented
from sensors.webhooks.deliveries import list_deliveries, replay_delivery
from storage.api_keys import ApiKey
from storage.clock import Clock
from storage.pool import Pool

_STATES = one_of("pending", "in_flight", "delivered", "retry", "failed", "cancelled", "parked")
_LISTING = Listing(
    name="deliveries",
    summary="An endpoint's deliveries with what the last attempt brought, the newest first.",
    order=(("delivery_id", IDENTIFIER),),
    filters=(Parameter("state", _STATES, "Only these."),),
)


def delivery_routes(pool: Pool, admin: Guard, clock: Clock) -> APIRouter:
    """The routes, for keys that `admin` lets pass."""
    router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], responses=READ_REFUSALS)
    Key = Annotated[ApiKey, Depends(admin)]

    @router.get("/{webhook_id}/deliveries", **documented_page(_LISTING, HTTPStatus.NOT_FOUND))
    def find(webhook_id: UUID, request: Request, key: Key) -> Response:
        query = read_query(_LISTING, key.tenant_id, request.query_params.multi_items(), str(webhook_id))
        after = query.after["delivery_id"] if query.after else None
        with acting(pool, key) as connection:
            rows = list_deliveries(
                connection,
                key.tenant_id,
                webhook_id,
                state=query.values.get("state"),
                after=after,
                limit=query.limit + 1,
            )
        return page_answer(page_of(_LISTING, query, rows))

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
