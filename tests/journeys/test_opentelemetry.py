"""The journey of a pipeline that knows OpenTelemetry and nothing of Tidemark: an unmodified SDK, the real gateway."""

from collections.abc import Iterator

import httpx
import pytest
from door import serving
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from storage.api_keys import create_key
from storage.clock import Clock
from storage.database import Connection, Database

EVENTS = 1200


@pytest.fixture
def client(database: Database, connection: Connection, tenant: str) -> Iterator[httpx.Client]:
    _, text = create_key(connection, tenant, ["ingest"], now=Clock().now())
    with serving(database) as client:
        client.headers["X-API-Key"] = text
        yield client


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_events_of_an_unmodified_sdk_become_evaluations_one_each(
    client: httpx.Client, connection: Connection, compression: Compression
) -> None:
    exporter = OTLPLogExporter(
        endpoint=str(client.base_url.join("/v1/logs")),
        headers={"X-API-Key": client.headers["X-API-Key"]},
        compression=compression,
    )
    resource = Resource.create({"service.name": "support-answers", "gen_ai.provider.name": "acme-ai"})
    provider = LoggerProvider(resource=resource)
    # A queue that holds all: a full one drops the oldest, and that is the SDK's own choice.
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, max_queue_size=2 * EVENTS))
    logger = provider.get_logger("evaluator")
    tracer = TracerProvider(resource=resource).get_tracer("evaluator")
    with tracer.start_as_current_span("chat") as span:
        trace = format(span.get_span_context().trace_id, "032x")
        for number in range(EVENTS):
            attributes = {
                "gen_ai.evaluation.name": ("drift", "reliability", "relevance")[number % 3],
                "gen_ai.evaluation.score.value": number / EVENTS,
                "gen_ai.evaluation.score.label": "good" if number % 2 else "bad",
                "gen_ai.response.model": "reader-2",
                "tidemark.features": {"tokens": number, "language": "en"},
            }
            if number % 2:
                attributes["gen_ai.response.id"] = f"response-{number}"
            logger.emit(event_name="gen_ai.evaluation.result", attributes=attributes)
            logger.emit(body="a log of the application", severity_text="INFO")
    assert provider.force_flush()
    provider.shutdown()

    landed = connection.execute(
        "select count(*), count(distinct record_id), count(drift_score), count(reliability_score), count(score),"
        " min(correlation_id), max(correlation_id), min(template), min(extractor_vendor), min(label),"
        " sum((features ->> 'tokens')::int), count(features -> 'evaluation_name') from raw.evaluations"
    ).fetchone()
    third = EVENTS // 3
    expected = (EVENTS, EVENTS, third, third, third, trace, trace, "support-answers", "acme-ai", "bad")
    assert landed == (*expected, EVENTS * (EVENTS - 1) // 2, third)
    receipts = connection.execute(
        "select distinct door from raw.ingest_batches where accepted > 0 and rejected + conflicts + duplicates = 0"
    ).fetchall()
    assert receipts == [("otlp",)]
