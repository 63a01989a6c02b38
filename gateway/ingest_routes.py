"""`POST /v1/evaluations` and the routes for feedback: records in, a verdict on each out, after the commit.

Belongs here: paths, headers, the form of the answer. Does not belong here: reading (`bodies`, `record_lines`), landing
(`ingest_door`), replay (`idempotency`).
"""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request, Response
from structlog.contextvars import bound_contextvars

from assets.evaluations.contract import EVALUATION, FEEDBACK
from assets.evaluations.landing import Judged
from assets.evaluations.verdicts import Kind, Receipt
from gateway.bodies import media_type
from gateway.idempotency import (
    REPLAYED_HEADER,
    Answer,
    IdempotentRequest,
    fingerprint,
    idempotency_key,
    in_work,
    store,
)
from gateway.ingest_door import IngestDoor
from gateway.ingest_openapi import ANSWERS, EVALUATION_EXAMPLE, FEEDBACK_EXAMPLE, FEEDBACK_ON_EXAMPLE, document
from gateway.keyring import Guard
from gateway.observation import Notes, notes_of
from gateway.record_lines import ADMITTED, about, split_records
from storage.api_keys import ApiKey
from storage.database import Connection

_ERRORS_SHOWN = 100


def ingest_routes(door: IngestDoor, pusher: Guard) -> APIRouter:
    """The routes, for keys that `pusher` lets pass."""
    router = APIRouter(tags=["ingest"], responses=ANSWERS)
    key_of = Depends(pusher)

    @router.post(
        "/v1/evaluations",
        summary="Land evaluations: NDJSON, a JSON object or an array, gzip allowed.",
        response_class=Response,
        openapi_extra=document(EVALUATION, EVALUATION_EXAMPLE),
    )
    async def push_evaluations(request: Request, key: Annotated[ApiKey, key_of]) -> Response:
        return await _push(door, request, key, "evaluations")

    @router.post(
        "/v1/feedback",
        summary="Land feedback on evaluations, also on those that have not arrived yet.",
        response_class=Response,
        openapi_extra=document(FEEDBACK, FEEDBACK_EXAMPLE),
    )
    async def push_feedback(request: Request, key: Annotated[ApiKey, key_of]) -> Response:
        return await _push(door, request, key, "feedback")

    @router.post(
        "/v1/evaluations/{evaluation_id}/feedback",
        summary="Land feedback on this evaluation; the records need not name it.",
        response_class=Response,
        openapi_extra=document(FEEDBACK, FEEDBACK_ON_EXAMPLE),
    )
    async def push_feedback_on(evaluation_id: UUID, request: Request, key: Annotated[ApiKey, key_of]) -> Response:
        return await _push(door, request, key, "feedback", evaluation_id)

    return router


async def _push(
    door: IngestDoor, request: Request, key: ApiKey, kind: Kind, evaluation_id: UUID | None = None
) -> Response:
    form = media_type(request, ADMITTED)
    idempotent = idempotency_key(request)
    notes = notes_of(request)
    async with door.receive(request) as body:

        def verdict() -> Answer:
            lines = split_records(body, form)
            if evaluation_id is not None:
                lines = [about(evaluation_id, line) for line in lines]
            judged = door.judge(key.tenant_id, kind, lines)
            with door.connection() as connection:
                if idempotent is None:
                    return answer_of(door.land(connection, notes, judged))
                mark = fingerprint(kind.encode(), str(evaluation_id or "").encode(), form.encode(), body)
                asked = IdempotentRequest(key.tenant_id, idempotent, mark)
                return _landed_once(door, connection, notes, judged, asked)

        with bound_contextvars(tenant=key.tenant_id, door="http"):
            answer = await door.in_turn(verdict)
    headers = {REPLAYED_HEADER: "true"} if answer.replayed else {}
    return Response(answer.body, answer.status, headers=headers, media_type="application/json")


def _landed_once(
    door: IngestDoor,
    connection: Connection,
    notes: Notes,
    judged: Judged,
    asked: IdempotentRequest,
) -> Answer:
    def keep(transaction: Connection, receipt: Receipt) -> None:
        store(transaction, asked, answer_of(receipt))

    with in_work(connection, asked) as stored:
        if stored is not None:
            notes.facts["replayed"] = True
            return stored
        return answer_of(door.land(connection, notes, judged, in_transaction=keep))


def answer_of(receipt: Receipt) -> Answer:
    """What the sender is told: 200 all landed or had landed, 207 some did, 422 none; the first 100 problems."""
    stood = receipt.accepted + receipt.duplicates
    status = 200 if not receipt.problems else 207 if stood else 422
    body = {
        "batch_id": receipt.batch_id,
        "accepted": receipt.accepted,
        "duplicates": receipt.duplicates,
        "conflicts": receipt.conflicts,
        "rejected": receipt.rejected,
        "errors": [problem.as_dict() for problem in receipt.problems[:_ERRORS_SHOWN]],
    }
    return Answer(status, orjson.dumps(body))
