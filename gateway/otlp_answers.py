"""The answers of the OTLP door, in the encoding of the request: ExportLogsServiceResponse, and Status for errors.

Belongs here: the form. Does not belong here: when something is refused (`otlp_routes`).
"""

from collections.abc import Sequence
from http import HTTPStatus

import orjson
from fastapi import Request, Response
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse

from assets.evaluations.otlp_mapping import sources_of
from assets.evaluations.verdicts import Problem
from gateway.problems import ProblemError
from gateway.record_lines import JSON

PROTOBUF = "application/x-protobuf"

_PROBLEMS_SHOWN = 10
_RETRY_AFTER_SECONDS = "1"


def accepted(media_type: str, problems: Sequence[Problem]) -> Response:
    """200: everything landed, had landed or was no evaluation; or all but these, which no client may send again."""
    if media_type == PROTOBUF:
        response = ExportLogsServiceResponse()
        if problems:
            response.partial_success.rejected_log_records = len(problems)
            response.partial_success.error_message = _told(problems)
        return Response(response.SerializeToString(), media_type=PROTOBUF)
    # 64-bit integers are strings in protobuf's JSON.
    partial = {"rejectedLogRecords": str(len(problems)), "errorMessage": _told(problems)}
    return Response(orjson.dumps({"partialSuccess": partial} if problems else {}), media_type=JSON)


def refused(request: Request, problem: ProblemError) -> Response:
    """A request of which nothing was landed."""
    status, headers = problem.status, problem.headers
    if status is HTTPStatus.REQUEST_TIMEOUT:
        # No client of OTLP may send again what was answered by any status but 429, 502, 503 and 504.
        status, headers = HTTPStatus.SERVICE_UNAVAILABLE, headers | {"Retry-After": _RETRY_AFTER_SECONDS}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == PROTOBUF:
        # google.rpc.Status has its message under the number that this one's has: no dependency more for one field.
        content = ExportLogsPartialSuccess(error_message=problem.detail).SerializeToString()
        return Response(content, status, headers=headers, media_type=PROTOBUF)
    return Response(orjson.dumps({"message": problem.detail}), status, headers=headers, media_type=JSON)


def _told(problems: Sequence[Problem]) -> str:
    told = [_one(problem) for problem in problems[:_PROBLEMS_SHOWN]]
    more = len(problems) - len(told)
    if more:
        told.append(f"and {more} more")
    return "; ".join(told) + ". They are kept and can be replayed: `tidemark rejects list`"


def _one(problem: Problem) -> str:
    where = f"log record {problem.line.number}" + (f", {problem.field}" if problem.field else "")
    remedy = ""
    if problem.field and problem.code == "missing":
        remedy = f" (read from {', '.join(sources_of(problem.field))})"
    return f"{where}: {problem.reason}{remedy}"
