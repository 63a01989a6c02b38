"""Fixtures of the warehouse's tests: records landed through the one door, marts read back and fingerprinted."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from assets.evaluations.landing import land
from assets.evaluations.verdicts import Line
from storage.database import Connection

MARTS = (
    "evaluation_daily_stats",
    "drift_history",
    "drift_trends",
    "extractor_performance",
    "extractor_comparison",
    "template_performance",
    "overview",
    "recent_alerts",
)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)

Push = Callable[..., None]
Rows = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def push(connection: Connection) -> Push:
    """`push(tenant, kind, records)`: lands the records as one batch, all of which must be good."""

    def push(tenant: str, kind: Any, records: Iterable[dict[str, Any]]) -> None:
        lines = [Line(number, json.dumps(record).encode()) for number, record in enumerate(records, start=1)]
        receipt = land(connection, tenant, kind, lines, door="test", now=NOW)
        assert not receipt.problems

    return push


@pytest.fixture
def rows(connection: Connection) -> Rows:
    """`rows(mart)`: its rows as dictionaries, in the order of the primary key."""

    def rows(relation: str) -> list[dict[str, Any]]:
        with connection.cursor() as cursor:
            cursor.execute(f"select * from {relation} order by 1")  # type: ignore[arg-type]  # noqa: S608
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    return rows


@pytest.fixture
def marts() -> tuple[str, ...]:
    """The names of all marts."""
    return MARTS


@pytest.fixture
def checksums(connection: Connection) -> Callable[[], dict[str, str]]:
    """`checksums()`: one hash a mart over all its rows and columns."""

    def checksums() -> dict[str, str]:
        query = "select md5(coalesce(string_agg(mart::text, '|' order by mart::text), '')) from marts.{} as mart"
        return {
            mart: connection.execute(query.format(mart)).fetchall()[0][0]  # type: ignore[arg-type]
            for mart in MARTS
        }

    return checksums


def evaluation(**fields: Any) -> dict[str, Any]:
    """A good evaluation record, with `fields` in place of its own."""
    return {
        "template": "invoice",
        "extractor_vendor": "acme-ai",
        "extractor_model": "reader-1",
        "drift_score": 0.1,
        "reliability_score": 0.9,
        "decision": "accept",
        "created_at": "2026-05-01T08:00:00Z",
    } | fields


@pytest.fixture
def an_evaluation() -> Callable[..., dict[str, Any]]:
    """`an_evaluation(**fields)`: a good record."""
    return evaluation
