"""Feedback on its way into `raw`: append-only, idempotent, and allowed to come before its evaluation."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from assets.evaluations.contract import FEEDBACK, Feedback, Refused, canonical, parse, payload_hash, record_key
from assets.evaluations.evaluation_rows import Outcome
from assets.evaluations.verdicts import Line, Problem
from storage.database import Connection

_INSERT = """
insert into raw.feedback (
    feedback_id, tenant_id, batch_id, record_key, evaluation_id, payload_hash, feedback_key, success, fields_correct,
    fields_total, created_at
)
values (
    %(feedback_id)s, %(tenant_id)s, %(batch_id)s, %(record_key)s, %(evaluation_id)s, %(payload_hash)s,
    %(feedback_key)s, %(success)s, %(fields_correct)s, %(fields_total)s, %(created_at)s
)
on conflict do nothing
returning feedback_id
"""

_STORED_HASHES = "select feedback_id, payload_hash from raw.feedback where feedback_id = any(%s)"

# Feedback restates the day of its evaluation; one that came too early restates nothing until that has landed.
_TOUCHED_DAYS = """
select created_on from raw.evaluation_keys
where record_key = any(%(record_keys)s)
union
select created_on from raw.evaluation_keys
where tenant_id = %(tenant_id)s and evaluation_id = any(%(evaluation_ids)s)
"""


@dataclass(frozen=True, slots=True)
class _Judged:
    line: Line
    record: Feedback
    feedback_id: uuid.UUID
    hash: uuid.UUID
    record_key: uuid.UUID | None


def insert_feedback(
    connection: Connection, tenant_id: str, batch_id: uuid.UUID, lines: Sequence[Line], now: datetime
) -> Outcome:
    """Judge the lines and insert what is new, within the caller's transaction."""
    outcome = Outcome()
    judged: list[_Judged] = []
    for line in lines:
        try:
            judged.append(_judge(tenant_id, line, now))
        except Refused as why:
            outcome.problems.append(Problem.rejected(line, why))
    firsts: dict[uuid.UUID, _Judged] = {}
    for item in judged:
        firsts.setdefault(item.feedback_id, item)
    accepted = _insert_new(connection, tenant_id, batch_id, firsts, now)
    outcome.accepted = len(accepted)
    outcome.touched_days = _touched_days(connection, tenant_id, [firsts[key] for key in accepted])
    rest = [item for item in judged if item.feedback_id not in accepted or firsts[item.feedback_id] is not item]
    keys = [item.feedback_id for item in rest]
    stored: dict[uuid.UUID, uuid.UUID] = dict(connection.execute(_STORED_HASHES, (keys,)).fetchall()) if keys else {}
    for item in rest:
        if stored[item.feedback_id] == item.hash:
            outcome.duplicates += 1
        else:
            outcome.problems.append(Problem.conflict(item.line, "feedback_key"))
    return outcome


def _judge(tenant_id: str, line: Line, now: datetime) -> _Judged:
    if line.refused is not None:
        raise line.refused
    record = parse(FEEDBACK, line.payload if line.record is None else line.record, now)
    own_hash = payload_hash(canonical(record))
    identity = f"key\0{record.feedback_key}" if record.feedback_key is not None else f"content\0{own_hash}"
    key = None if record.record_id is None else record_key(tenant_id, record.record_id)
    return _Judged(line, record, payload_hash(f"feedback\0{tenant_id}\0{identity}".encode()), own_hash, key)


def _insert_new(
    connection: Connection, tenant_id: str, batch_id: uuid.UUID, firsts: dict[uuid.UUID, _Judged], now: datetime
) -> set[uuid.UUID]:
    rows = [
        {
            "feedback_id": item.feedback_id,
            "tenant_id": tenant_id,
            "batch_id": batch_id,
            "record_key": item.record_key,
            "evaluation_id": item.record.evaluation_id,
            "payload_hash": item.hash,
            "feedback_key": item.record.feedback_key,
            "success": item.record.success,
            "fields_correct": item.record.fields_correct,
            "fields_total": item.record.fields_total,
            "created_at": item.record.created_at or now,
        }
        for _, item in sorted(firsts.items())
    ]
    accepted: set[uuid.UUID] = set()
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(_INSERT, rows, returning=True)
            for result in cursor.results():
                accepted.update(row[0] for row in result)
    return accepted


def _touched_days(connection: Connection, tenant_id: str, accepted: list[_Judged]) -> set[date]:
    names = {
        "tenant_id": tenant_id,
        "record_keys": [item.record_key for item in accepted if item.record_key is not None],
        "evaluation_ids": [item.record.evaluation_id for item in accepted if item.record.evaluation_id is not None],
    }
    return {row[0] for row in connection.execute(_TOUCHED_DAYS, names)} if accepted else set()
