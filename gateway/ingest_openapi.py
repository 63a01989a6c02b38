"""What OpenAPI says of the routes for pushing: bodies by the contract's own models, every answer.

Belongs here: documentation. Does not belong here: behaviour.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson

from assets.evaluations.contract import Contract
from gateway.idempotency import HEADER, REPLAYED_HEADER
from gateway.problems import MEDIA_TYPE, documented
from gateway.record_lines import JSON, NDJSON

_COUNT = {"type": "integer", "minimum": 0}
_VERDICTS: dict[str, Any] = {
    "type": "object",
    "required": ["batch_id", "accepted", "duplicates", "conflicts", "rejected", "errors"],
    "properties": {
        "batch_id": {"type": "string", "format": "uuid"},
        "accepted": _COUNT,
        "duplicates": _COUNT,
        "conflicts": _COUNT,
        "rejected": _COUNT,
        "errors": {
            "type": "array",
            "maxItems": 100,
            "description": "The first 100 problems; all of them are kept and can be listed and replayed.",
            "items": {
                "type": "object",
                "required": ["line", "record_id", "verdict", "field", "code", "reason"],
                "properties": {
                    "line": {"type": "integer", "minimum": 1},
                    "record_id": {"type": ["string", "null"]},
                    "verdict": {"enum": ["conflict", "rejected"]},
                    "field": {"type": ["string", "null"]},
                    "code": {"type": "string"},
                    "reason": {"type": "string"},
                },
            },
        },
    },
}
_REPLAYED = {
    REPLAYED_HEADER: {
        "description": f"`true` if this is the stored answer to an earlier request with this {HEADER}.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}
EVALUATION_EXAMPLE = {
    "record_id": "invoice-0001",
    "template": "invoice",
    "extractor_vendor": "acme",
    "extractor_model": "reader-2",
    "drift_score": 0.12,
    "reliability_score": 0.97,
    "decision": "accept",
    "created_at": "2026-05-01T12:00:00Z",
    "features": {"pages": 2, "language": "en"},
    "batch_key": "2026-05-01",
}
FEEDBACK_EXAMPLE = {"record_id": "invoice-0001", "fields_correct": 11, "fields_total": 12}
FEEDBACK_ON_EXAMPLE = {"success": True}
_KEY_PARAMETER = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "The same request under the same key gets the same answer for 24 hours, and is not landed again.",
}


def _judged(description: str) -> dict[str, Any]:
    return {"description": description, "headers": _REPLAYED, "content": {JSON: {"schema": _VERDICTS}}}


def _answers() -> dict[int | str, dict[str, Any]]:
    refusals = documented(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    )
    none = _judged("No record landed, or the body holds none, or the Idempotency-Key was used for another body.")
    none["content"] |= refusals[HTTPStatus.UNPROCESSABLE_ENTITY.value]["content"]
    assert MEDIA_TYPE in none["content"]  # noqa: S101 - both forms are documented
    return refusals | {
        HTTPStatus.OK.value: _judged("Every record landed, or had landed before."),
        HTTPStatus.MULTI_STATUS.value: _judged("Some records landed; `errors` names the others."),
        HTTPStatus.UNPROCESSABLE_ENTITY.value: none,
    }


ANSWERS = _answers()


def document(record: Contract[Any], example: Mapping[str, object]) -> dict[str, Any]:
    """The body and the header of a route that takes these records, of which `example` is one."""
    schema = record.json_schema()
    lines = {"type": "string", "description": "One JSON record a line; each as in `application/json`."}
    line = orjson.dumps(example).decode() + "\n"
    return {
        "parameters": [_KEY_PARAMETER],
        "requestBody": {
            "required": True,
            "description": "At most 8 MiB unpacked and 10,000 records, in UTF-8; Content-Encoding gzip is allowed.",
            "content": {
                JSON: {
                    "schema": {"oneOf": [schema, {"type": "array", "minItems": 1, "items": schema}]},
                    "example": [example],
                },
                **{name: {"schema": lines, "example": line} for name in NDJSON},
            },
        },
    }
