"""Feedback on its way into `raw`: append-only, idempotent, and allowed to come before its evaluation."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

import orjson

from assets.evaluations.contract import FEEDBACK, Refused, parse_with_content, payload_hash, record_key
from assets.evaluations.verdicts import Line, Outcome, Problem
from storage.database import Connection

# In order, so that two overlapping batches can't deadlock on the ids.
_INSERT = """
insert into raw.feedback (
    feedback_id, tenant_id, batch_id, record_key, evaluation_id, payload_hash, feedback_key, success, fields_correct,
    fields_total, created_at
)
select
    feedback_id, %(tenant_id)s, %(batch_id)s, record_key, evaluation_id, payload_hash, feedback_key, success,
    fields_correct, fields_total, created_at
from json_to_recordset(%(feedback)s) as incoming (
    feedback_id uuid, record_key uuid, evaluation_id uuid, payload_hash uuid, feedback_key text, success boolean,
    fields_correct integer, fields_total integer, created_at timestamptz
)
order by feedback_id
on conflict do nothing
returning feedback_id
"""

_STORED_HASHES = "select feedback_id, payload_hash from raw.feedback where feedback_id = any(%s::uuid[])"

# Feedback restates the day of its evaluation; one that came too early restates nothing until that has landed.
_TOUCHED_DAYS = """
select created_on from raw.evaluation_keys
where record_key = any(%(record_keys)s::uuid[])
union
select created_on from raw.evaluation_keys
where tenant_id = %(tenant_id)s and evaluation_id = any(%(evaluation_ids)s::uuid[])
"""


class FeedbackRow(NamedTuple):
    """An admissible feedback: its identity, its content's hash, and its columns."""

    line: Line
    feedback_id: uuid.UUID
    hash: uuid.UUID
    columns: Mapping[str, object]


def judge_feedback(tenant_id: str, lines: Sequence[Line], now: datetime) -> tuple[list[FeedbackRow], list[Problem]]:
    """What the contract admits, and what it refuses."""
    rows: list[FeedbackRow] = []
    problems: list[Problem] = []
    for line in lines:
        try:
            rows.append(_row(tenant_id, line, now))
        except Refused as why:
            problems.append(Problem.rejected(line, why))
    return rows, problems


def insert_feedback(
    tenant_id: str, rows: Sequence[FeedbackRow], connection: Connection, batch_id: uuid.UUID
) -> Outcome:
    """Insert what is new, within the caller's transaction."""
    firsts: dict[uuid.UUID, FeedbackRow] = {}
    for row in rows:
        firsts.setdefault(row.feedback_id, row)
    accepted = _insert_new(connection, tenant_id, batch_id, list(firsts.values())) if rows else set()
    days = _touched_days(connection, tenant_id, [firsts[key] for key in accepted]) if accepted else set()
    outcome = Outcome(accepted=len(accepted), touched_days=days)
    rest = [row for row in rows if row.feedback_id not in accepted or firsts[row.feedback_id] is not row]
    stored = _stored_hashes(connection, rest) if rest else {}
    for row in rest:
        if stored[row.feedback_id] == row.hash:
            outcome.duplicates += 1
        else:
            outcome.problems.append(Problem.conflict(row.line, "feedback_key"))
    return outcome


def _row(tenant_id: str, line: Line, now: datetime) -> FeedbackRow:
    if line.refused is not None:
        raise line.refused
    record, content = parse_with_content(FEEDBACK, line.payload if line.record is None else line.record, now)
    own_hash = uuid.UUID(bytes=payload_hash(content))
    identity = f"key\0{record['feedback_key']}" if "feedback_key" in record else f"content\0{own_hash}"
    feedback_id = uuid.UUID(bytes=payload_hash(f"feedback\0{tenant_id}\0{identity}".encode()))
    record_id = record.get("record_id")
    columns = {
        "feedback_id": feedback_id,
        "record_key": None if record_id is None else uuid.UUID(bytes=record_key(tenant_id, record_id)),
        "evaluation_id": record.get("evaluation_id"),
        "payload_hash": own_hash,
        "feedback_key": record.get("feedback_key"),
        "success": record.get("success"),
        "fields_correct": record.get("fields_correct"),
        "fields_total": record.get("fields_total"),
        # A replay must not make it newer than what has corrected it since.
        "created_at": record.get("created_at", line.received_at or now),
    }
    return FeedbackRow(line, feedback_id, own_hash, columns)


def _insert_new(
    connection: Connection, tenant_id: str, batch_id: uuid.UUID, rows: Sequence[FeedbackRow]
) -> set[uuid.UUID]:
    feedback = orjson.dumps([row.columns for row in rows]).decode()
    names = {"tenant_id": tenant_id, "batch_id": batch_id, "feedback": feedback}
    return {feedback_id for (feedback_id,) in connection.execute(_INSERT, names)}


def _stored_hashes(connection: Connection, rows: Sequence[FeedbackRow]) -> dict[uuid.UUID, uuid.UUID]:
    return dict(connection.execute(_STORED_HASHES, ([row.feedback_id for row in rows],)).fetchall())


def _touched_days(connection: Connection, tenant_id: str, rows: Sequence[FeedbackRow]) -> set[date]:
    names = {
        "tenant_id": tenant_id,
        "record_keys": [key for row in rows if (key := row.columns["record_key"]) is not None],
        "evaluation_ids": [own for row in rows if (own := row.columns["evaluation_id"]) is not None],
    }
    return {day for (day,) in connection.execute(_TOUCHED_DAYS, names)}
