"""Evaluations judged, and written down as PostgreSQL takes them at least cost.

Belongs here: one line and what it becomes. Does not belong here: the database (`evaluation_inserts`).
"""

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from secrets import randbits
from struct import Struct
from typing import NamedTuple

import orjson

from assets.evaluations.binary_copy import (
    NULL,
    halfvec,
    jsonb,
    microseconds,
    number,
    repeated_text,
    text,
    texts,
    uuid_field,
)
from assets.evaluations.contract import (
    EVALUATION,
    Refused,
    derived_record_id,
    has_feedback,
    parse_with_content,
    payload_hash,
    record_key,
    template_id,
)
from assets.evaluations.record_fields import Evaluation
from assets.evaluations.verdicts import Line, Problem

_MICROSECONDS_A_DAY = 86_400_000_000
# The number of fields, then the first ones with their lengths: what all rows have, in one call.
_FIRST_FIELDS = Struct("!hi16si16siq")
_BOTH_SCORES = Struct("!idid")
_FIELDS = 27
_CHOICE = frozenset(("decision_id", "eligible_extractors", "assigned_by", "snapshot_id", "cost_usd", "latency_ms"))
_NO_CHOICE = NULL * len(_CHOICE)
_OTHERS = _CHOICE | {"template_version", "score", "label", "propensity", "batch_key", "correlation_id", "embedding"}
_NO_OTHERS = NULL * len(_OTHERS)


class EvaluationRow(NamedTuple):
    """An admissible record: what makes it unique, and its row in binary COPY format.

    Attributes:
        line: what it was read from.
        key: 16 bytes for its identity.
        hash: 16 bytes for its content.
        evaluation_id: 16 bytes.
        day: of created_at in UTC, as PostgreSQL counts days.
        template: its name.
        template_id: 16 bytes.
        fields: the row for raw.evaluations without its last two fields.
        feedback: what it carries of it by column, or None.
    """

    line: Line
    key: bytes
    hash: bytes
    evaluation_id: bytes
    day: int
    template: str
    template_id: bytes
    fields: bytes
    feedback: dict[str, object] | None


def judge_evaluations(
    tenant_id: str, lines: Sequence[Line], now: datetime
) -> tuple[list[EvaluationRow], list[Problem]]:
    """What the contract admits, and what it refuses."""
    rows: list[EvaluationRow] = []
    problems: list[Problem] = []
    new_ids = _time_ordered_ids(now, len(lines))
    for line in lines:
        try:
            rows.append(_row(tenant_id, line, now, new_ids))
        except Refused as why:
            problems.append(Problem.rejected(line, why))
    return rows, problems


def _row(tenant_id: str, line: Line, now: datetime, new_ids: Iterator[bytes]) -> EvaluationRow:
    if line.refused is not None:
        raise line.refused
    record, content = parse_with_content(EVALUATION, line.payload if line.record is None else line.record, now)
    record_id = record.get("record_id") or derived_record_id(content)
    key = record_key(tenant_id, record_id)
    own_hash = payload_hash(content)
    given_id = record.get("evaluation_id")
    evaluation_id = next(new_ids) if given_id is None else given_id.bytes
    created_at = microseconds(record["created_at"])
    day = created_at // _MICROSECONDS_A_DAY
    template = record["template"]
    template_id, subject = _subject(
        tenant_id, template, record["extractor_vendor"], record["extractor_model"], record.get("decision", "undecided")
    )
    features = record.get("features")
    fields = (
        _FIRST_FIELDS.pack(_FIELDS, 16, key, 16, evaluation_id, 8, created_at),
        subject,
        text(record_id),
        _scores(record.get("drift_score"), record.get("reliability_score")),
        NULL if features is None else jsonb(orjson.dumps(features)),
        _NO_OTHERS if _OTHERS.isdisjoint(record) else _other_fields(record),
    )
    return EvaluationRow(
        line,
        key,
        own_hash,
        evaluation_id,
        day,
        template,
        template_id,
        b"".join(fields),
        _feedback(record, key, own_hash) if has_feedback(record) else None,
    )


@lru_cache(maxsize=16_384)
def _subject(tenant_id: str, template: str, vendor: str, model: str, decision: str) -> tuple[bytes, bytes]:
    """The template's identifier, and the fields that so few records differ in that they are kept written."""
    own = template_id(tenant_id, template).bytes
    return own, b"".join((len(own).to_bytes(4), own, *map(text, (template, vendor, model, decision))))


def _scores(drift: float | None, reliability: float | None) -> bytes:
    if drift is None or reliability is None:
        return (NULL if drift is None else number(drift)) + (NULL if reliability is None else number(reliability))
    return _BOTH_SCORES.pack(8, drift, 8, reliability)


def _other_fields(record: Evaluation) -> bytes:
    score, propensity, embedding = record.get("score"), record.get("propensity"), record.get("embedding")
    return b"".join(
        (
            repeated_text(record.get("template_version")),
            NULL if score is None else number(score),
            repeated_text(record.get("label")),
            NULL if propensity is None else number(propensity),
            repeated_text(record.get("batch_key")),
            text(record.get("correlation_id")),
            NULL if embedding is None else halfvec(embedding),
            _NO_CHOICE if _CHOICE.isdisjoint(record) else _choice_fields(record),
        )
    )


def _choice_fields(record: Evaluation) -> bytes:
    eligible, snapshot_id = record.get("eligible_extractors"), record.get("snapshot_id")
    cost, latency = record.get("cost_usd"), record.get("latency_ms")
    return b"".join(
        (
            text(record.get("decision_id")),
            NULL if eligible is None else texts(eligible),
            repeated_text(record.get("assigned_by")),
            NULL if snapshot_id is None else uuid_field(snapshot_id),
            NULL if cost is None else number(cost),
            NULL if latency is None else number(latency),
        )
    )


def _feedback(record: Evaluation, key: bytes, own_hash: bytes) -> dict[str, object]:
    return {
        "record_key": key.hex(),
        "payload_hash": own_hash.hex(),
        "success": record.get("success"),
        "fields_correct": record.get("fields_correct"),
        "fields_total": record.get("fields_total"),
        "created_at": record["created_at"],
    }


def _time_ordered_ids(now: datetime, count: int) -> Iterator[bytes]:
    """UUIDs of version 7 (RFC 9562), which an index takes at its end: 48 bits of time, then random ones."""
    version, variant = 0x7000 | randbits(12), 0x80 | randbits(6)
    first_bytes = int(now.timestamp() * 1000).to_bytes(6) + version.to_bytes(2) + variant.to_bytes(1)
    noise = os.urandom(7 * count)
    for start in range(0, 7 * count, 7):
        yield first_bytes + noise[start : start + 7]
