"""Answers that aren't problems: JSON that no shared cache may keep, and what OpenAPI says of it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Response

from gateway.listings import Listing
from gateway.pages import Page
from gateway.parameters import openapi_page_parameters
from gateway.problems import READ_REFUSALS, documented

# A tenant's rows are nothing for a shared cache.
_HEADERS = {"Cache-Control": "no-store"}

Documented = dict[int | str, dict[str, Any]]

_PAGE: Documented = {
    HTTPStatus.OK.value: {
        "description": "A page; `next_cursor` is null on the last one.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["data", "next_cursor"],
                    "properties": {
                        "data": {"type": "array", "items": {"type": "object"}},
                        "next_cursor": {"type": ["string", "null"]},
                    },
                }
            }
        },
    }
}


def json_answer(
    content: object, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer with a body; times in UTC with a Z, identifiers as text."""
    body = orjson.dumps(content, option=orjson.OPT_UTC_Z)
    return Response(body, status, media_type="application/json", headers={**_HEADERS, **(headers or {})})


def page_answer(page: Page) -> Response:
    """One page of a list."""
    return json_answer({"data": page.data, "next_cursor": page.next_cursor})


def documented_page(listing: Listing, *refusals: HTTPStatus) -> dict[str, Any]:
    """A route's own arguments where it answers pages of a list.

    Args:
        listing: the list.
        refusals: what the route may answer beside what every reading route may.
    """
    return {
        "summary": listing.summary,
        "response_class": Response,
        "responses": _PAGE | READ_REFUSALS | documented(*refusals),
        "openapi_extra": {"parameters": openapi_page_parameters(listing)},
    }


def documented_answer(description: str, *members: str, status: HTTPStatus = HTTPStatus.OK) -> Documented:
    """What OpenAPI says of an answer that is an object with these members."""
    schema = {"type": "object", "required": list(members), "properties": {name: {} for name in members}}
    return {status.value: {"description": description, "content": {"application/json": {"schema": schema}}}}
