"""`GET /v1/dashboard/*`: every entry of the whitelist as a route, all by the same code."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from gateway.answers import documented_page, page_answer
from gateway.dashboards import DASHBOARDS, Dashboard
from gateway.keyring import Guard
from gateway.pages import read_page
from gateway.parameters import read_query
from storage.api_keys import ApiKey
from storage.pool import Pool


def dashboard_routes(pool: Pool, reader: Guard) -> APIRouter:
    """The routes of all dashboards, for keys that `reader` lets pass."""
    router = APIRouter(prefix="/v1/dashboard", tags=["dashboard"])
    for dashboard in DASHBOARDS:
        router.add_api_route(
            f"/{dashboard.name}",
            _endpoint(dashboard, pool, reader),
            name=dashboard.name,
            operation_id=f"dashboard_{dashboard.mart}",
            **documented_page(dashboard),
        )
    return router


def _endpoint(dashboard: Dashboard, pool: Pool, reader: Guard) -> Callable[..., Response]:
    def answer(request: Request, key: Annotated[ApiKey, Depends(reader)]) -> Response:
        query = read_query(dashboard, key.tenant_id, request.query_params.multi_items())
        return page_answer(read_page(pool, dashboard, query))

    return answer
