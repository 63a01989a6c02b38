"""`GET /v1/dashboard/*`: every entry of the whitelist as a route, all by the same code."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from gateway.dashboards import DASHBOARDS, Dashboard
from gateway.keyring import Guard
from gateway.pages import read_page
from gateway.parameters import openapi_parameters, read_query
from gateway.problems import documented
from storage.api_keys import ApiKey
from storage.pool import Pool

_REFUSALS = documented(
    HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE
)
_PAGE: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK.value: {
        "description": "A page; `next_cursor` is null on the last one.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["data", "next_cursor"],
                    "properties": {
                        "data": {"type": "array", "items": {"type": "object"}},
                        "next_cursor": {"type": ["string", "null"]},
                    },
                }
            }
        },
    }
}


def dashboard_routes(pool: Pool, reader: Guard) -> APIRouter:
    """The routes of all dashboards, for keys that `reader` lets pass."""
    router = APIRouter(prefix="/v1/dashboard", tags=["dashboard"], responses=_PAGE | _REFUSALS)
    for dashboard in DASHBOARDS:
        router.add_api_route(
            f"/{dashboard.name}",
            _endpoint(dashboard, pool, reader),
            name=dashboard.name,
            summary=dashboard.summary,
            operation_id=f"dashboard_{dashboard.mart}",
            response_class=Response,
            openapi_extra={"parameters": openapi_parameters(dashboard)},
        )
    return router


def _endpoint(dashboard: Dashboard, pool: Pool, reader: Guard) -> Callable[..., Response]:
    def answer(request: Request, key: Annotated[ApiKey, Depends(reader)]) -> Response:
        page = read_page(pool, read_query(dashboard, key.tenant_id, request.query_params.multi_items()))
        body = orjson.dumps({"data": page.data, "next_cursor": page.next_cursor}, option=orjson.OPT_UTC_Z)
        # A tenant's figures are nothing for a shared cache.
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    return answer
