"""Evaluations into `raw`, each row once: first the keys that are new are taken, then their evaluations are copied."""

import uuid
from collections.abc import Iterable, Sequence
from struct import Struct

import orjson
from psycopg.errors import UniqueViolation

from assets.evaluations.binary_copy import copy_rows, date_of, last_fields
from assets.evaluations.evaluation_rows import EvaluationRow
from assets.evaluations.verdicts import Outcome, Problem
from storage.database import Connection

# One look into the index a record, whatever the planner believes of the table's size.
_STANDING = """
select incoming.position - 1, standing.payload_hash = incoming.payload_hash
from unnest(%(keys)s::uuid[], %(hashes)s::uuid[])
    with ordinality as incoming (record_key, payload_hash, position)
cross join lateral (
    select payload_hash from raw.evaluation_keys where record_key = incoming.record_key limit 1
) as standing
"""

_COPY_KEYS = """
copy raw.evaluation_keys (record_key, evaluation_id, payload_hash, created_on, tenant_id) from stdin (format binary)
"""
_KEY_FIELDS = Struct("!hi16si16si16sii")

_INSERT_KEYS = """
insert into raw.evaluation_keys (record_key, evaluation_id, payload_hash, created_on, tenant_id)
select record_key, evaluation_id, payload_hash, date '2000-01-01' + day, %(tenant_id)s
from unnest(%(keys)s::uuid[], %(evaluation_ids)s::uuid[], %(hashes)s::uuid[], %(days)s::integer[])
    as incoming (record_key, evaluation_id, payload_hash, day)
order by record_key
on conflict do nothing
returning uuid_send(record_key)
"""

# Retention locks the whole table to drop a month: with this lock held, a month that is there stays.
_HOLD_MONTHS = "lock table raw.evaluations in row exclusive mode"
_ENSURE_MONTHS = "select raw.ensure_evaluations_month(month) from unnest(%s::date[]) as month"
_COPY = """
copy raw.evaluations (
    record_key, evaluation_id, created_at, template_id, template, extractor_vendor, extractor_model, decision,
    record_id, drift_score, reliability_score, features, template_version, score, label, propensity, batch_key,
    correlation_id, embedding, tenant_id, batch_id
) from stdin (format binary)
"""

_REGISTER_TEMPLATES = """
insert into access.templates (template_id, tenant_id, template, first_batch_id, first_seen_at)
select template_id, %(tenant_id)s, template, %(batch_id)s::uuid, clock_timestamp()
from unnest(%(template_ids)s::uuid[], %(templates)s::text[]) as named (template_id, template)
where not exists (select from access.templates as known where known.template_id = named.template_id)
order by template_id
on conflict do nothing
"""

_KEEP_FEEDBACK = """
insert into raw.feedback
    (feedback_id, tenant_id, batch_id, record_key, payload_hash, success, fields_correct, fields_total, created_at)
select
    record_key, %(tenant_id)s, %(batch_id)s, record_key, payload_hash, success, fields_correct, fields_total,
    created_at
from json_to_recordset(%(feedback)s) as carried (
    record_key uuid, payload_hash uuid, success boolean, fields_correct integer, fields_total integer,
    created_at timestamptz
)
on conflict do nothing
"""


def insert_evaluations(
    tenant_id: str, rows: Sequence[EvaluationRow], connection: Connection, batch_id: uuid.UUID
) -> Outcome:
    """Insert what is new, within the caller's transaction."""
    by_key: dict[bytes, EvaluationRow] = {}
    repeats = [row for row in rows if by_key.setdefault(row.key, row) is not row]
    firsts = list(by_key.values())
    standing = _standing(connection, firsts)
    new = [row for row, same in zip(firsts, standing, strict=True) if same is None]
    taken = _take_keys(connection, tenant_id, new)
    if taken:
        _copy(connection, tenant_id, batch_id, taken)
    outcome = Outcome(accepted=len(taken), touched_days={date_of(day) for day in {row.day for row in taken}})
    judged = [(row, same) for row, same in zip(firsts, standing, strict=True) if same is not None]
    late = repeats + _without(new, taken)
    for row, same in [*judged, *zip(late, _standing(connection, late), strict=True)]:
        if same:
            outcome.duplicates += 1
        else:
            # If its record_id is new, what stood in its way is another record's evaluation_id.
            outcome.problems.append(Problem.conflict(row.line, "evaluation_id" if same is None else "record_id"))
    return outcome


def _standing(connection: Connection, rows: Sequence[EvaluationRow]) -> list[bool | None]:
    """Of each record: None if its key is free, else whether what stands under it has the same content."""
    standing: list[bool | None] = [None] * len(rows)
    if rows:
        names = {"keys": _uuids(row.key for row in rows), "hashes": _uuids(row.hash for row in rows)}
        for position, same in connection.execute(_STANDING, names):
            standing[position] = same
    return standing


def _take_keys(connection: Connection, tenant_id: str, rows: Sequence[EvaluationRow]) -> Sequence[EvaluationRow]:
    """Take the keys and return the rows which they were free for.

    They are taken in order, so that two overlapping batches can't deadlock on them.
    """
    if not rows:
        return rows
    try:
        with connection.transaction():
            # The key comes first in its row.
            pack = _KEY_FIELDS.pack
            keys = [pack(5, 16, row.key, 16, row.evaluation_id, 16, row.hash, 4, row.day) for row in rows]
            keys.sort()
            copy_rows(connection, _COPY_KEYS, keys, last_fields(tenant_id))
    except UniqueViolation:
        # Another batch was quicker, or another record has an evaluation_id: rare, and twice as dear.
        return _take_free_keys(connection, tenant_id, rows)
    return rows


def _take_free_keys(connection: Connection, tenant_id: str, rows: Sequence[EvaluationRow]) -> Sequence[EvaluationRow]:
    names = {
        "tenant_id": tenant_id,
        "keys": _uuids(row.key for row in rows),
        "evaluation_ids": _uuids(row.evaluation_id for row in rows),
        "hashes": _uuids(row.hash for row in rows),
        "days": [row.day for row in rows],
    }
    taken = {key for (key,) in connection.execute(_INSERT_KEYS, names)}
    return [row for row in rows if row.key in taken]


def _copy(connection: Connection, tenant_id: str, batch_id: uuid.UUID, rows: Sequence[EvaluationRow]) -> None:
    months = {date_of(day).replace(day=1) for day in {row.day for row in rows}}
    connection.execute(_HOLD_MONTHS)
    connection.execute(_ENSURE_MONTHS, (sorted(months),))
    copy_rows(connection, _COPY, [row.fields for row in rows], last_fields(tenant_id, batch_id))
    names: dict[str, object] = {"tenant_id": tenant_id, "batch_id": batch_id}
    templates = {row.template_id: row.template for row in rows}
    named = {"template_ids": _uuids(templates), "templates": list(templates.values())}
    connection.execute(_REGISTER_TEMPLATES, names | named)
    feedback = [row.feedback for row in rows if row.feedback is not None]
    if feedback:
        connection.execute(_KEEP_FEEDBACK, names | {"feedback": orjson.dumps(feedback).decode()})


def _without(rows: Sequence[EvaluationRow], taken: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    if len(taken) == len(rows):
        return []
    keys = {row.key for row in taken}
    return [row for row in rows if row.key not in keys]


def _uuids(values: Iterable[bytes]) -> str:
    """An array of UUIDs as PostgreSQL reads it; psycopg would take longer to write it than the server to insert."""
    return "{" + b"".join(values).hex(",", 16) + "}"
