"""`GET /v1/recommendations`: the extractor to use for a template, by the code of `tidemark recommend`."""

import random
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from assets.selection.recommend import choose, unit_of
from gateway.answers import documented_answer, json_answer
from gateway.keyring import Guard
from gateway.listings import TEXT, Parameter, one_of
from gateway.parameters import openapi_parameters, read_values
from gateway.problems import READ_REFUSALS, BadParametersError, documented
from gateway.recommendation_board import RecommendationBoard
from storage.api_keys import ApiKey

_PARAMETERS = (
    Parameter("template", TEXT, "The template to choose an extractor for.", is_required=True),
    Parameter("mode", one_of("best", "sample"), "The recommended one (if not given), or one by its share."),
    Parameter(
        "key",
        TEXT,
        "Of mode `sample`: what is decided about, such as a document's identifier. A key gets the same extractor while "
        "shares stay; without a key it draws.",
    ),
)


def recommendation_routes(board: RecommendationBoard, reader: Guard) -> APIRouter:
    """The route, for keys that `reader` lets pass."""
    router = APIRouter(prefix="/v1/recommendations", tags=["recommendations"], responses=READ_REFUSALS)
    draws = random.SystemRandom()

    @router.get(
        "",
        summary="Which extractor a template should use, from what the last refresh learnt.",
        response_class=Response,
        responses=documented_answer(
            "The choice, the `propensity` with which it was chosen and the `snapshot_id` it rests on, both to be sent "
            "with the evaluation, the `decision` with its `reason`, and all extractors with their probability of being "
            "best and their share; 409 while there is no feedback to go by.",
            "template",
            "mode",
            "extractor_vendor",
            "extractor_model",
            "propensity",
            "assigned_by",
            "snapshot_id",
            "decision",
            "reason",
            "extractors",
        )
        | documented(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
        openapi_extra={"parameters": openapi_parameters(_PARAMETERS)},
    )
    def recommend(request: Request, key: Annotated[ApiKey, Depends(reader)]) -> Response:
        values = read_values(_PARAMETERS, request.query_params.multi_items())
        template, mode, about = values["template"], values.get("mode", "best"), values.get("key")
        if about is not None and mode == "best":
            raise BadParametersError([("key", "decides about shares: add mode=sample, or leave it out")])
        found = board.find(key.tenant_id, template)
        choice = choose(found, mode, draws.random() if about is None else unit_of(found, about))
        return json_answer({"template": template, "mode": mode, "key": about, **choice.as_dict(found)})

    return router
