"""`GET /v1/evaluations`, one of them, and those nearest to it: what landed, as the key's tenant may see it."""

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request, Response

from assets.evaluations.reading import (
    NEAREST_AMONG,
    Wanted,
    find_evaluations,
    nearest_evaluations,
    read_evaluation,
)
from gateway.answers import documented_answer, documented_page, json_answer, page_answer
from gateway.keyring import Guard
from gateway.listings import IDENTIFIER, MOMENT, NUMBER, TEXT, TIME, Listing, Parameter, one_of, whole_number
from gateway.pages import page_of, seeing
from gateway.parameters import openapi_parameters, read_query, read_values
from gateway.problems import READ_REFUSALS, documented
from storage.api_keys import ApiKey
from storage.pool import Pool

MOST_NEIGHBOURS = 100
DEFAULT_NEIGHBOURS = 10

_FILTERS = (
    Parameter("template", TEXT, "Only this template."),
    Parameter("extractor_vendor", TEXT, "Only this vendor's extractors."),
    Parameter("extractor_model", TEXT, "Only this model."),
    Parameter("label", TEXT, "Only this label."),
    Parameter("decision", one_of("accept", "review", "reject", "undecided"), "Only this decision."),
    Parameter("drift_score_min", NUMBER, "Drift score at least."),
    Parameter("drift_score_max", NUMBER, "Drift score at most."),
    Parameter("reliability_score_min", NUMBER, "Reliability score at least."),
    Parameter("reliability_score_max", NUMBER, "Reliability score at most."),
    Parameter("score_min", NUMBER, "Score at least."),
    Parameter("score_max", NUMBER, "Score at most."),
    Parameter("from", TIME, "Created at this time or later."),
    Parameter("to", TIME, "Created before this time."),
)
_LISTING = Listing(
    name="evaluations",
    summary="Evaluations as they landed, the newest first, without features and embeddings.",
    order=(("created_at", MOMENT), ("evaluation_id", IDENTIFIER)),
    filters=_FILTERS,
)
_K = Parameter("k", whole_number(1, MOST_NEIGHBOURS, DEFAULT_NEIGHBOURS), "How many at most.")


def evaluation_routes(pool: Pool, reader: Guard) -> APIRouter:
    """The routes, for keys that `reader` lets pass."""
    router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"], responses=READ_REFUSALS)

    @router.get("", **documented_page(_LISTING))
    def find(request: Request, key: Annotated[ApiKey, Depends(reader)]) -> Response:
        query = read_query(_LISTING, key.tenant_id, request.query_params.multi_items())
        after: tuple[datetime, UUID] | None = None
        if query.after is not None:
            after = (query.after["created_at"], query.after["evaluation_id"])
        with seeing(pool, key.tenant_id) as connection:
            rows = find_evaluations(
                connection, key.tenant_id, _wanted(query.values), after=after, limit=query.limit + 1
            )
        return page_answer(page_of(_LISTING, query, rows))

    @router.get(
        "/{evaluation_id}",
        summary="One evaluation with its features, its embedding and the newest feedback on it.",
        response_class=Response,
        responses=documented_answer("The evaluation.", "evaluation_id", "record_id", "template", "features", "feedback")
        | documented(HTTPStatus.NOT_FOUND),
    )
    def read(evaluation_id: UUID, request: Request, key: Annotated[ApiKey, Depends(reader)]) -> Response:
        read_values((), request.query_params.multi_items())
        with seeing(pool, key.tenant_id) as connection:
            row = read_evaluation(connection, key.tenant_id, evaluation_id)
        features = None if row["features"] is None else orjson.Fragment(row["features"])
        return json_answer(row | {"features": features})

    @router.get(
        "/{evaluation_id}/nearest",
        summary=f"The evaluations with the nearest embeddings, of the newest {NEAREST_AMONG} that pass the filters.",
        response_class=Response,
        responses=documented_answer(
            "The nearest first, with their cosine `distance`; `searched` tells among which.", "data", "searched"
        )
        | documented(HTTPStatus.NOT_FOUND),
        openapi_extra={"parameters": openapi_parameters([_K, *_FILTERS])},
    )
    def nearest(evaluation_id: UUID, request: Request, key: Annotated[ApiKey, Depends(reader)]) -> Response:
        values = read_values([_K, *_FILTERS], request.query_params.multi_items())
        k = values.pop("k", DEFAULT_NEIGHBOURS)
        with seeing(pool, key.tenant_id) as connection:
            found = nearest_evaluations(connection, key.tenant_id, evaluation_id, _wanted(values), k=k)
        return json_answer({"data": found.found, "searched": found.searched})

    return router


def _wanted(values: Mapping[str, Any]) -> Wanted:
    # `from` is a word of Python's own.
    names = {"from": "since", "to": "until"}
    return Wanted(**{names.get(name, name): value for name, value in values.items()})
