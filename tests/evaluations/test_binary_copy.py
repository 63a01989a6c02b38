"""What PostgreSQL reads from the bytes that are copied to it is what was sent, whatever that was."""

import struct
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from assets.evaluations.landing import land
from assets.evaluations.verdicts import Line
from storage.database import Connection
from storage.tenants import create_tenant

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)

_letters = st.characters(exclude_characters="\x00", exclude_categories=("Cs",)) | st.sampled_from("\\\t\n\r\"'{}N")
_text = st.text(_letters, min_size=1, max_size=20).map("a".__add__)
_number = st.floats(allow_nan=False, allow_infinity=False)
_time = st.timedeltas(timedelta(0), timedelta(30)).map(lambda ago: (NOW - ago).isoformat())
_fraction = st.floats(0, 1)
# Without minus zero and numbers that jsonb, which is exact, and a float tell apart.
_feature = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(_letters, max_size=20)
_OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "template_version": _text,
    "drift_score": _fraction,
    "reliability_score": _fraction,
    "decision": st.sampled_from(["accept", "review", "reject"]),
    "features": st.dictionaries(st.text(_letters, max_size=9), _feature, max_size=4),
    "embedding": st.lists(st.floats(-65504, 65504, width=16), min_size=3, max_size=3).map(lambda some: some * 128),
    "label": _text,
    "propensity": st.floats(0, 1, exclude_min=True),
    "batch_key": _text,
    "correlation_id": _text,
    "decision_id": _text,
    "assigned_by": st.sampled_from(["share", "override", "fallback", "retry"]),
    "snapshot_id": st.uuids().map(str),
    "cost_usd": st.floats(0, 1e6),
    "latency_ms": st.floats(0, 1e9),
}
_extractors = st.lists(st.builds("{}/{}".format, _text.map(lambda name: name.replace("/", "_")), _text), max_size=4)


def _with_a_choice(record: dict[str, Any], others: list[str] | None) -> dict[str, Any]:
    if others is None or "/" in record["extractor_vendor"]:
        return record
    own = f"{record['extractor_vendor']}/{record['extractor_model']}"
    return record | {"eligible_extractors": sorted({own, *others})}


_record = st.builds(
    _with_a_choice,
    st.fixed_dictionaries(
        {
            "template": _text,
            "extractor_vendor": _text,
            "extractor_model": _text,
            "score": _number,
            "created_at": _time,
        },
        optional=_OPTIONAL | {"evaluation_id": st.uuids().map(str)},
    ),
    st.none() | _extractors,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_record, min_size=1, max_size=20, unique_by=lambda record: record.get("evaluation_id", object())))
def test_every_value_arrives_as_it_was_sent(connection: Connection, sent: list[dict[str, Any]]) -> None:
    tenant = f"t-{uuid.uuid4().hex}"
    create_tenant(connection, tenant)
    records = [record | {"record_id": str(number)} for number, record in enumerate(sent)]
    lines = [Line(number, orjson.dumps(record)) for number, record in enumerate(records, start=1)]
    assert land(connection, tenant, "evaluations", lines, door="test", now=NOW).accepted == len(records)

    with connection.cursor(row_factory=dict_row, binary=True) as cursor:
        cursor.execute(
            "select *, halfvec_send(embedding) as embedding from raw.evaluations where tenant_id = %s", (tenant,)
        )
        landed = {row["record_id"]: row for row in cursor}
    for record in records:
        row = landed[record["record_id"]]
        expected: dict[str, Any] = {"decision": "undecided"} | record
        expected["created_at"] = datetime.fromisoformat(record["created_at"])
        if "evaluation_id" in record:
            expected["evaluation_id"] = uuid.UUID(record["evaluation_id"])
        if "snapshot_id" in record:
            expected["snapshot_id"] = uuid.UUID(record["snapshot_id"])
        if "embedding" in record:
            expected["embedding"] = struct.pack("!hh384e", 384, 0, *record["embedding"])
        assert {name: row[name] for name in expected} == expected
        assert all(row[name] is None for name in _OPTIONAL if name not in expected)


def test_a_made_evaluation_id_is_a_uuid_of_version_7_by_the_server_s_clock(connection: Connection, tenant: str) -> None:
    record = {"template": "t", "extractor_vendor": "v", "extractor_model": "m", "created_at": "2026-05-01T00:00:00Z"}
    lines = [Line(number, orjson.dumps(record | {"score": number})) for number in range(1, 1001)]
    land(connection, tenant, "evaluations", lines, door="test", now=NOW)
    ids = [row[0] for row in connection.execute("select evaluation_id from raw.evaluations")]
    assert len(set(ids)) == 1000
    assert {(made.version, made.variant) for made in ids} == {(7, uuid.RFC_4122)}
    assert {datetime.fromtimestamp((made.int >> 80) / 1000, UTC) for made in ids} == {NOW}
