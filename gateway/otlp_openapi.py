"""What OpenAPI says of the OTLP route. Belongs here: documentation. Does not belong here: behaviour."""

from http import HTTPStatus
from typing import Any

from assets.evaluations.otlp_mapping import EVENT_NAME
from gateway.otlp_answers import PROTOBUF
from gateway.record_lines import JSON

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_RESPONSE = {
    "type": "object",
    "properties": {
        "partialSuccess": {
            "type": "object",
            "required": ["rejectedLogRecords", "errorMessage"],
            "properties": {
                "rejectedLogRecords": {"type": "string", "pattern": "^[1-9][0-9]*$"},
                "errorMessage": {"type": "string"},
            },
        }
    },
}
_STATUS = {"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}}
_REFUSALS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)

ANSWERS: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK.value: {
        "description": "ExportLogsServiceResponse: empty, or `partialSuccess` with what was not landed and why.",
        "content": {PROTOBUF: _BINARY, JSON: {"schema": _RESPONSE}},
    },
    **{
        status.value: {
            "description": f"{status.phrase}: google.rpc.Status, in the encoding of the request.",
            "content": {PROTOBUF: _BINARY, JSON: {"schema": _STATUS}},
        }
        for status in _REFUSALS
    },
}


def _list_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


_ATTRIBUTES = _list_of(_object(key={"type": "string"}, value={"type": "object"}))
_NANOSECONDS = {"oneOf": [{"type": "string", "pattern": "^[0-9]{1,19}$"}, {"type": "integer", "minimum": 0}]}
_LOG_RECORD = _object(
    eventName={"type": "string"},
    timeUnixNano=_NANOSECONDS,
    observedTimeUnixNano=_NANOSECONDS,
    traceId={"type": "string"},
    spanId={"type": "string"},
    attributes=_ATTRIBUTES,
)
_REQUEST = _object(
    resourceLogs=_list_of(
        _object(resource=_object(attributes=_ATTRIBUTES), scopeLogs=_list_of(_object(logRecords=_list_of(_LOG_RECORD))))
    )
)
_EXAMPLE = {
    "resourceLogs": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "invoice"}}]},
            "scopeLogs": [
                {
                    "logRecords": [
                        {
                            "eventName": EVENT_NAME,
                            "timeUnixNano": "1777636800000000000",
                            "traceId": "5B8EFFF798038103D269B633813FC60C",
                            "spanId": "EEE19B7EC3C1B174",
                            "attributes": [
                                {"key": "gen_ai.evaluation.name", "value": {"stringValue": "reliability"}},
                                {"key": "gen_ai.evaluation.score.value", "value": {"doubleValue": 0.97}},
                                {"key": "gen_ai.response.id", "value": {"stringValue": "chatcmpl-123"}},
                                {"key": "gen_ai.provider.name", "value": {"stringValue": "acme"}},
                                {"key": "gen_ai.response.model", "value": {"stringValue": "reader-2"}},
                            ],
                        }
                    ]
                }
            ],
        }
    ]
}

BODY = {
    "requestBody": {
        "required": True,
        "description": (
            "ExportLogsServiceRequest, at most 8 MiB unpacked and 10,000 log records; Content-Encoding gzip is "
            f"allowed. Its events `{EVENT_NAME}` are landed, other log records are passed over."
        ),
        "content": {PROTOBUF: _BINARY, JSON: {"schema": _REQUEST, "example": _EXAMPLE}},
    }
}
