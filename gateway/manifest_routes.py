"""`POST /v1/batches/{batch_key}/manifest`: a sender declares what it has sent, for the marts to reconcile."""

from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from assets.evaluations.manifests import Manifest, declare_manifest
from assets.evaluations.record_fields import Text200
from gateway.documents import read_document
from gateway.in_flight import InFlight
from gateway.keyring import Guard
from gateway.problems import BadParametersError, documented
from storage.api_keys import ApiKey
from storage.pool import Pool

_MOST = 2**63 - 1


class Declaration(BaseModel):
    """What a sender declares about one of its batches."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    expected: Annotated[int, Field(ge=0, le=_MOST, description="How many records the batch has.")]
    checksum: Annotated[Text200 | None, Field(description="Of the batch's records, if the sender made one.")] = None


_REFUSALS = documented(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_STORED: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK.value: {
        "description": "The declaration that now stands; the newest one counts.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["batch_key", "expected", "checksum", "declared_at"],
                    "properties": {
                        "batch_key": {"type": "string"},
                        "expected": {"type": "integer", "minimum": 0},
                        "checksum": {"type": ["string", "null"]},
                        "declared_at": {"type": "string", "format": "date-time"},
                    },
                }
            }
        },
    }
}
_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": Declaration.model_json_schema()}}}
}

# A batch_key may have slashes in it, as folders do.
BatchKey = Annotated[str, Path(min_length=1, max_length=200, description="The sender's own name of the batch.")]


def manifest_routes(pool: Pool, budget: InFlight, pusher: Guard) -> APIRouter:
    """The route, for keys that `pusher` lets pass."""
    router = APIRouter(tags=["ingest"], responses=_REFUSALS | _STORED)

    @router.post(
        "/v1/batches/{batch_key:path}/manifest",
        summary="Declare how many records a batch has.",
        response_class=Response,
        openapi_extra=_BODY,
    )
    async def declare(request: Request, batch_key: BatchKey, key: Annotated[ApiKey, Depends(pusher)]) -> Response:
        if "\0" in batch_key:
            raise BadParametersError([("batch_key", "has a NUL character")])
        declared = await read_document(request, budget, Declaration)
        stored = await run_in_threadpool(_store, pool, key.tenant_id, batch_key, declared)
        return Response(orjson.dumps(stored, option=orjson.OPT_UTC_Z), media_type="application/json")

    return router


def _store(pool: Pool, tenant_id: str, batch_key: str, declared: Declaration) -> Manifest:
    with pool.connection() as connection:
        return declare_manifest(
            connection, tenant_id, batch_key, expected=declared.expected, checksum=declared.checksum
        )
