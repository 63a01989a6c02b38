"""`/v1/alerts`: what is out of bounds, for readers; looking after it, for administrators."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from assets.evaluations.record_fields import Text200
from gateway.acting import acting
from gateway.admin_bodies import Body, body_of, documented_body
from gateway.answers import documented_answer, documented_page, json_answer, page_answer
from gateway.in_flight import InFlight
from gateway.keyring import Guard
from gateway.listings import IDENTIFIER, MOMENT, TEXT, Listing, Parameter, one_of
from gateway.pages import page_of, seeing
from gateway.parameters import read_query
from gateway.problems import READ_REFUSALS, WRITE_REFUSALS, documented
from sensors.alerts.administration import acknowledge, list_alerts, resolve
from sensors.outbox import EVENT_TYPES
from storage.api_keys import ApiKey
from storage.clock import Clock
from storage.pool import Pool

_LISTING = Listing(
    name="alerts",
    summary="The tenant's alerts, the newest first, as they are this moment.",
    order=(("started_at", MOMENT), ("alert_id", IDENTIFIER)),
    filters=(
        Parameter(
            "status", one_of("pending", "firing", "resolved"), "Only alerts that wait to fire, fire, or are over."
        ),
        Parameter("event_type", one_of(*EVENT_TYPES), "Only this rule's."),
        Parameter("template", TEXT, "Only this template's."),
    ),
)
_UNKNOWN = documented(HTTPStatus.NOT_FOUND)


class Acknowledgement(Body):
    """Who looks after an alert; the key, if nobody is named."""

    by: Text200 | None = None


def alert_routes(pool: Pool, reader: Guard, admin: Guard, clock: Clock, budget: InFlight) -> APIRouter:
    """The routes, for keys that `reader` lets pass and, where something changes, `admin`."""
    router = APIRouter(prefix="/v1/alerts", tags=["alerts"])
    Admin = Annotated[ApiKey, Depends(admin)]

    @router.get("", **documented_page(_LISTING))
    def find(request: Request, key: Annotated[ApiKey, Depends(reader)]) -> Response:
        query = read_query(_LISTING, key.tenant_id, request.query_params.multi_items())
        after: tuple[datetime, UUID] | None = None
        if query.after is not None:
            after = (query.after["started_at"], query.after["alert_id"])
        with seeing(pool, key.tenant_id) as connection:
            rows = list_alerts(connection, key.tenant_id, **query.values, after=after, limit=query.limit + 1)
        return page_answer(page_of(_LISTING, query, rows))

    @router.post(
        "/{alert_id}/ack",
        summary="Note that somebody looks after an alert; it goes on firing.",
        response_class=Response,
        responses=documented_answer("`changed` is false if somebody did already.", "alert_id", "changed")
        | WRITE_REFUSALS
        | _UNKNOWN,
        openapi_extra={"requestBody": documented_body(Acknowledgement, is_optional=True)},
    )
    def ack(
        alert_id: UUID,
        key: Admin,
        body: Annotated[Acknowledgement, Depends(body_of(Acknowledgement, budget, is_optional=True))],
    ) -> Response:
        by = body.by or f"key:{key.key_id}"
        with acting(pool, key) as connection:
            changed = acknowledge(connection, key.tenant_id, alert_id, by=by, now=clock.now())
        return json_answer({"alert_id": alert_id, "changed": changed})

    @router.post(
        "/{alert_id}/resolve",
        summary="End an alert by hand and tell the endpoints; a later breach opens the next one.",
        response_class=Response,
        responses=documented_answer("`changed` is false if it was over already.", "alert_id", "changed")
        | READ_REFUSALS
        | _UNKNOWN,
    )
    def end(alert_id: UUID, key: Admin) -> Response:
        with acting(pool, key) as connection:
            changed = resolve(connection, key.tenant_id, alert_id, now=clock.now())
        return json_answer({"alert_id": alert_id, "changed": changed})

    return router
