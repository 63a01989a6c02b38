"""Small JSON bodies of administrative requests: read up to a limit, held strictly against a model, problems named.

Does not belong here: bodies of records, which are large and land byte for byte.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.problems import BadParametersError, ProblemError

LARGEST_BODY = 64 * 1024

_JSON = "application/json"


class Body(BaseModel):
    """What a request may say: nothing beside these members, and no number from a string."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


Model = TypeVar("Model", bound=Body)


def body_of(model: type[Model], *, is_optional: bool = False) -> Callable[[Request], Awaitable[Model]]:
    """A dependency that hands a route its body; an optional one that is missing reads as an empty object."""

    async def read(request: Request) -> Model:
        content = await _content(request)
        if is_optional and not content:
            content = b"{}"
        else:
            _require_json(request)
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise BadParametersError([_problem(model, dict(issue)) for issue in error.errors()]) from None

    return read


def documented_body(model: type[Body], *, is_optional: bool = False) -> dict[str, Any]:
    """What OpenAPI says of such a body."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    return {"required": not is_optional, "content": {_JSON: {"schema": _inlined(schema, definitions)}}}


async def _content(request: Request) -> bytes:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LARGEST_BODY:
            detail = f"the body is larger than {LARGEST_BODY} bytes"
            raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, largest_bytes=LARGEST_BODY)
    return bytes(content)


def _require_json(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _JSON:
        detail = f"send the body as {_JSON}, not as {media_type or 'nothing in particular'}"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)


def _problem(model: type[Body], issue: dict[str, Any]) -> tuple[str, str]:
    # The location and the message alone: what was sent may be a secret.
    where = ".".join(str(part) for part in issue["loc"]) or "body"
    if issue["type"] == "extra_forbidden" and len(issue["loc"]) == 1:
        return where, f"unknown; known are {', '.join(model.model_fields)}"
    return where, str(issue["msg"])


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    # OpenAPI looks for "#/$defs" at the document's root and not in the schema.
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {name: _inlined(part, definitions) for name, part in schema.items()}
    return [_inlined(part, definitions) for part in schema] if isinstance(schema, list) else schema
