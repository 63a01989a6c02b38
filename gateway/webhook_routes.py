"""`/v1/webhooks`: endpoints registered, changed, tested and deleted by keys of scope admin, as on the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from gateway.acting import acting
from gateway.admin_bodies import Body, body_of, documented_body
from gateway.answers import documented_answer, documented_page, json_answer, page_answer
from gateway.in_flight import InFlight
from gateway.keyring import Guard
from gateway.listings import IDENTIFIER, MOMENT, Listing
from gateway.pages import page_of
from gateway.parameters import read_query, read_values
from gateway.problems import READ_REFUSALS, WRITE_REFUSALS, documented
from sensors.webhooks import registry
from sensors.webhooks.addresses import Network
from sensors.webhooks.changes import Changes, change_webhook
from sensors.webhooks.keys import LONGEST_OVERLAP, ROTATION_OVERLAP
from sensors.webhooks.registry import HIGHEST_RATE, MOST_IN_FLIGHT, RetryProfile, Serving, Webhook
from sensors.webhooks.rendering import Format
from storage.api_keys import ApiKey
from storage.clock import Clock
from storage.pool import Pool
from storage.secrets import SecretBox

_LISTING = Listing(
    name="webhooks",
    summary="The tenant's endpoints, the oldest first.",
    order=(("created_at", MOMENT), ("webhook_id", IDENTIFIER)),
)
_UNKNOWN = documented(HTTPStatus.NOT_FOUND)
_MEMBERS = tuple(field.name for field in fields(Webhook) if field.name != "tenant_id")

_SERVING = {field.name for field in fields(Serving)}

Description = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$", description="For people.")]
EventTypes = Annotated[
    list[str], Field(default_factory=list, max_length=100, description="Which events are told; none means all.")
]
Url = Annotated[str, Field(max_length=4000, description="https://…; later shown without path and query.")]
Ed25519 = Annotated[bool, Field(description="Sign with ed25519 too (`v1a`); `public_keys` verify it.")]
Profile = Annotated[
    RetryProfile, Field(description="`quick`: after 1, 5 and 30 minutes; `standard`: over about 75 hours.")
]
InFlightRequests = Annotated[int, Field(ge=1, le=MOST_IN_FLIGHT, description="Requests under way at once.")]
Rate = Annotated[
    float | None, Field(strict=False, gt=0, le=HIGHEST_RATE, description="Requests a second; null is no limit.")
]
Ordered = Annotated[bool, Field(description="One delivery of a subject at a time, in the order of the events.")]


class NewWebhook(Body):
    """An endpoint to register."""

    url: Url
    format: Annotated[
        Format,
        Field(description="`tidemark`: the event; `slack`: Block Kit; `teams`: an Adaptive Card. Stays as it is."),
    ] = "tidemark"
    event_types: EventTypes
    description: Description = ""
    ed25519: Ed25519 = False
    retry_profile: Profile = "quick"
    max_in_flight: InFlightRequests = 8
    rate_per_second: Rate = None
    ordered: Ordered = False


class Rotation(Body):
    """How long the secret before goes on signing."""

    overlap_hours: Annotated[
        float,
        Field(
            strict=False,
            ge=0,
            le=LONGEST_OVERLAP / timedelta(hours=1),
            description="How long the old secret signs too; 0, for one that leaked: it signs nothing from now on.",
        ),
    ] = ROTATION_OVERLAP / timedelta(hours=1)


class ChangedWebhook(Body):
    """What to change of an endpoint; what is missing stays."""

    url: Url = ""
    event_types: EventTypes
    description: Description = ""
    ed25519: Ed25519 = False
    retry_profile: Profile = "quick"
    max_in_flight: InFlightRequests = 8
    rate_per_second: Rate = None
    ordered: Ordered = False
    status: Annotated[
        Literal["active", "paused"], Field(description="`paused` holds deliveries back, `active` sends what waited.")
    ] = "active"


def webhook_routes(
    pool: Pool, admin: Guard, clock: Clock, budget: InFlight, box: SecretBox, allowed: Sequence[Network]
) -> APIRouter:
    """The routes of endpoints; those of their deliveries are `delivery_routes`.

    Args:
        pool: connections to the platform's database.
        admin: lets keys pass.
        clock: tells the time.
        budget: where bodies are counted.
        box: seals new secrets.
        allowed: networks that endpoints may be in although not public.
    """
    router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
    Key = Annotated[ApiKey, Depends(admin)]

    @router.get("", **documented_page(_LISTING))
    def find(request: Request, key: Key) -> Response:
        query = read_query(_LISTING, key.tenant_id, request.query_params.multi_items())
        after: tuple[datetime, UUID] | None = None
        if query.after is not None:
            after = (query.after["created_at"], query.after["webhook_id"])
        with acting(pool, key) as connection:
            found = registry.list_webhooks(connection, key.tenant_id, after=after, limit=query.limit + 1)
        return page_answer(page_of(_LISTING, query, [_shown(webhook) for webhook in found]))

    @router.post(
        "",
        summary="Register an endpoint; its signing secret is in this answer and in no later one.",
        status_code=HTTPStatus.CREATED,
        response_class=Response,
        responses=documented_answer(
            "Registered; `Location` tells its path.", *_MEMBERS, "secret", status=HTTPStatus.CREATED
        )
        | WRITE_REFUSALS,
        openapi_extra={"requestBody": documented_body(NewWebhook)},
    )
    def create(key: Key, body: Annotated[NewWebhook, Depends(body_of(NewWebhook, budget))]) -> Response:
        with acting(pool, key) as connection:
            webhook, secret = registry.create_webhook(
                connection,
                box,
                key.tenant_id,
                body.url,
                now=clock.now(),
                event_types=body.event_types,
                description=body.description,
                form=body.format,
                serving=Serving(**body.model_dump(include=_SERVING)),
                allowed=allowed,
            )
        location = {"Location": f"/v1/webhooks/{webhook.webhook_id}"}
        return json_answer({**_shown(webhook), "secret": secret}, HTTPStatus.CREATED, location)

    @router.get(
        "/{webhook_id}",
        summary="One endpoint.",
        response_class=Response,
        responses=documented_answer("The endpoint.", *_MEMBERS) | READ_REFUSALS | _UNKNOWN,
    )
    def read(webhook_id: UUID, request: Request, key: Key) -> Response:
        read_values((), request.query_params.multi_items())
        with acting(pool, key) as connection:
            return json_answer(_shown(registry.get_webhook(connection, key.tenant_id, webhook_id)))

    @router.patch(
        "/{webhook_id}",
        summary="Change an endpoint: where it is, what it is told, how it is served, whether it is paused.",
        response_class=Response,
        responses=documented_answer("The endpoint as it is now.", *_MEMBERS) | WRITE_REFUSALS | _UNKNOWN,
        openapi_extra={"requestBody": documented_body(ChangedWebhook)},
    )
    def change(
        webhook_id: UUID, key: Key, body: Annotated[ChangedWebhook, Depends(body_of(ChangedWebhook, budget))]
    ) -> Response:
        with acting(pool, key) as connection:
            changes: Changes = body.model_dump(include=body.model_fields_set - {"status"})  # type: ignore[assignment]
            webhook = change_webhook(
                connection, box, key.tenant_id, webhook_id, changes, now=clock.now(), allowed=allowed
            )
            if "status" in body.model_fields_set:
                turn = registry.pause_webhook if body.status == "paused" else registry.resume_webhook
                webhook = turn(connection, key.tenant_id, webhook_id)
            return json_answer(_shown(webhook))

    @router.delete(
        "/{webhook_id}",
        summary="Forget an endpoint; what it hasn't got yet is cancelled, the log of its deliveries stays.",
        status_code=HTTPStatus.NO_CONTENT,
        response_class=Response,
        responses=READ_REFUSALS | _UNKNOWN,
    )
    def delete(webhook_id: UUID, key: Key) -> Response:
        with acting(pool, key) as connection:
            registry.delete_webhook(connection, key.tenant_id, webhook_id)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    @router.post(
        "/{webhook_id}/test",
        summary="Queue a `webhook_test` event for one endpoint, on the path of all events.",
        status_code=HTTPStatus.ACCEPTED,
        response_class=Response,
        responses=documented_answer("Queued.", "delivery_id", "queued", status=HTTPStatus.ACCEPTED)
        | READ_REFUSALS
        | documented(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
    def test(webhook_id: UUID, key: Key) -> Response:
        with acting(pool, key) as connection:
            delivery_id = registry.send_test(connection, key.tenant_id, webhook_id, now=clock.now())
        return json_answer({"delivery_id": delivery_id, "queued": True}, HTTPStatus.ACCEPTED)

    @router.post(
        "/{webhook_id}/rotate",
        summary="Make a new signing secret, shown this once; for 24 hours or `overlap_hours` the old one signs too.",
        response_class=Response,
        responses=documented_answer("The new secret.", "webhook_id", "secret") | WRITE_REFUSALS | _UNKNOWN,
        openapi_extra={"requestBody": documented_body(Rotation, is_optional=True)},
    )
    def rotate(
        webhook_id: UUID, key: Key, body: Annotated[Rotation, Depends(body_of(Rotation, budget, is_optional=True))]
    ) -> Response:
        overlap = timedelta(hours=body.overlap_hours)
        with acting(pool, key) as connection:
            secret = registry.rotate_webhook(
                connection, box, key.tenant_id, webhook_id, now=clock.now(), overlap=overlap
            )
        return json_answer({"webhook_id": webhook_id, "secret": secret})

    return router


def _shown(webhook: Webhook) -> Mapping[str, Any]:
    members = asdict(webhook)
    return {name: members[name] for name in _MEMBERS}
