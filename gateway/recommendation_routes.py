"""`GET /v1/recommendations`: the extractor to use for a template, by the code of `tidemark recommend`."""

from http import HTTPStatus
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Request, Response

from assets.selection.recommend import recommend
from assets.selection.tables import read_template
from gateway.answers import documented_answer, json_answer
from gateway.keyring import Guard
from gateway.listings import TEXT, Parameter, one_of
from gateway.pages import seeing
from gateway.parameters import openapi_parameters, read_values
from gateway.problems import READ_REFUSALS, documented
from storage.api_keys import ApiKey
from storage.pool import Pool

_PARAMETERS = (
    Parameter("template", TEXT, "The template to choose an extractor for.", is_required=True),
    Parameter(
        "mode", one_of("best", "sample"), "The probably best one (if not given), or a draw by Thompson sampling."
    ),
)


def recommendation_routes(pool: Pool, reader: Guard) -> APIRouter:
    """The route, for keys that `reader` lets pass."""
    router = APIRouter(prefix="/v1/recommendations", tags=["recommendations"], responses=READ_REFUSALS)

    @router.get(
        "",
        summary="Which extractor a template should use, from the posteriors of the last refresh.",
        response_class=Response,
        responses=documented_answer(
            "The choice, the `propensity` with which it was chosen, and all extractors with their probability of being "
            "best; 409 while there is no feedback to go by.",
            "template",
            "mode",
            "extractor_vendor",
            "extractor_model",
            "propensity",
            "extractors",
        )
        | documented(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
        openapi_extra={"parameters": openapi_parameters(_PARAMETERS)},
    )
    def choose(request: Request, key: Annotated[ApiKey, Depends(reader)]) -> Response:
        values = read_values(_PARAMETERS, request.query_params.multi_items())
        template, mode = values["template"], values.get("mode", "best")
        with seeing(pool, key.tenant_id) as connection:
            arms = read_template(connection, key.tenant_id, template)
        found = recommend(arms, mode, np.random.default_rng() if mode == "sample" else None)
        return json_answer({"template": template, "mode": mode, **found.as_dict()})

    return router
