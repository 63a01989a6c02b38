"""OpenAPI against the door itself: whatever is asked, the answer is one that the document promises."""

import json
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
import schemathesis
from door import serving
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from storage.api_keys import SCOPES, create_key
from storage.clock import Clock
from storage.database import Connection, Database

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 15


@schemathesis.serializer("application/x-ndjson", "application/ndjson", "application/jsonlines")
def as_lines(_context: schemathesis.SerializationContext, value: object) -> bytes:
    """A body of lines is documented as text."""
    return str(value).encode(errors="replace")


@schemathesis.serializer("application/x-protobuf")
def as_protobuf(_context: schemathesis.SerializationContext, value: object) -> bytes:
    """Bytes as they are."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@pytest.fixture
def client(database: Database, connection: Connection, tenant: str) -> Iterator[httpx.Client]:
    _, text = create_key(connection, tenant, SCOPES, now=Clock().now())
    with serving(database) as client:
        client.headers["X-API-Key"] = text
        yield client


def test_every_route_answers_as_documented(client: httpx.Client, connection: Connection) -> None:
    schema = schemathesis.openapi.from_url(str(client.base_url.join("/openapi.json")))
    # Without marts a dashboard is 503 and rightly so; `test_dashboards` has them built.
    operations = [one.ok() for one in schema.exclude(path_regex="^/v1/dashboard/").get_all_operations()]
    assert len(operations) >= 7
    for operation in operations:
        _conforms(operation, client.headers["X-API-Key"])
    landed = connection.execute("select coalesce(sum(accepted), 0) from raw.ingest_batches").fetchone()
    assert landed is not None
    assert landed[0] > 0


def test_every_example_of_a_body_is_accepted(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    bodies = [
        (path.replace("{evaluation_id}", str(uuid4())), media_type, content["example"])
        for path, methods in document["paths"].items()
        for media_type, content in methods.get("post", {}).get("requestBody", {}).get("content", {}).items()
        if "example" in content
    ]
    assert len(bodies) == 13
    for path, media_type, example in bodies:
        content = example if isinstance(example, str) else json.dumps(example)
        answer = client.post(path, content=content, headers={"Content-Type": media_type})
        assert answer.status_code == 200, (path, media_type, answer.text)


def _conforms(operation: schemathesis.APIOperation, key: str) -> None:
    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def answers_as_documented(data: st.DataObject) -> None:
        mode = data.draw(st.sampled_from(list(schemathesis.GenerationMode)))
        case = data.draw(operation.as_strategy(generation_mode=mode))
        case.call_and_validate(headers={"X-API-Key": key}, checks=CHECKS)

    answers_as_documented()
