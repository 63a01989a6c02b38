"""`GET /metrics`: Prometheus's text, without a key and for near peers alone.

To all others the page does not exist: it tells how busy a deployment is, and scrapers have no key to send.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from gateway.metrics import Metrics
from gateway.networks import is_near
from gateway.options import Network
from gateway.problems import documented

_TEXT: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK.value: {"description": "As text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


def metrics_route(metrics: Metrics, admin_networks: Sequence[Network]) -> APIRouter:
    """The route, for loopback and these networks."""
    router = APIRouter(tags=["operation"])

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus; to loopback and TIDEMARK_ADMIN_NETWORKS only.",
        response_class=Response,
        responses=documented(HTTPStatus.NOT_FOUND) | _TEXT,
    )
    def text(request: Request) -> Response:
        if not is_near(request, admin_networks):
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})

    return router
