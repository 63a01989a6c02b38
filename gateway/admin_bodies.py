"""Bodies of administrative requests as dependencies of their routes, and what OpenAPI says of them.

Does not belong here: how a document is read (`documents`).
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict

from gateway.documents import read_document
from gateway.in_flight import InFlight
from gateway.record_lines import JSON


class Body(BaseModel):
    """What a request may say: nothing beside these members, and no number from a string."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


Model = TypeVar("Model", bound=Body)


def body_of(
    model: type[Model], budget: InFlight, *, is_optional: bool = False
) -> Callable[[Request], Awaitable[Model]]:
    """A dependency that hands a route its body; an optional one that isn't sent reads as an empty object."""

    async def read(request: Request) -> Model:
        if is_optional and "content-type" not in request.headers:
            return model()
        return await read_document(request, budget, model)

    return read


def documented_body(model: type[Body], *, is_optional: bool = False) -> dict[str, Any]:
    """What OpenAPI says of such a body."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    return {"required": not is_optional, "content": {JSON: {"schema": _inlined(schema, definitions)}}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    # OpenAPI looks for "#/$defs" at the document's root and not in the schema.
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {name: _inlined(part, definitions) for name, part in schema.items()}
    return [_inlined(part, definitions) for part in schema] if isinstance(schema, list) else schema
