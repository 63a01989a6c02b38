"""Small JSON documents as bodies: one object, strict, its unknown members refused by name.

Belongs here: from a body to a checked model. Does not belong here: records (`record_lines`).
"""

from http import HTTPStatus
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from gateway.bodies import media_type, received
from gateway.in_flight import InFlight
from gateway.problems import BadParametersError, ProblemError
from gateway.record_lines import JSON

LIMITS = {"bytes": 64 * 1024}
_SECONDS = 10.0

Model = TypeVar("Model", bound=BaseModel)


async def read_document(request: Request, budget: InFlight, model: type[Model]) -> Model:
    """The body as this model, which should be strict and forbid extra members.

    Raises:
        ProblemError: 400 no JSON, 413 more than 64 KiB, 415 not JSON by its type, 422 naming each member that is wrong.
    """
    media_type(request, (JSON,))
    async with received(request, budget, _SECONDS, limits=LIMITS) as body:
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            issues = error.errors(include_url=False, include_input=False)
    if issues[0]["type"] == "json_invalid":
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {issues[0]['ctx']['error']}")
    # The place and the message alone: what was sent may be a secret.
    raise BadParametersError([(".".join(map(str, issue["loc"])) or "body", issue["msg"]) for issue in issues])
