"""Evaluations into `raw`, each row once: first the keys that are new are taken, then their evaluations are copied."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    correlation_id, embedding, decision_id, eligible_extractors, assigned_by, snapshot_id, cost_usd, latency_ms,
    tenant_id, batch_id
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


@dataclass(frozen=True, slots=True)
class _Copied:
    """What COPY takes of some rows, made ready before PostgreSQL is asked, which then waits for nobody.

    Attributes:
        keys: rows of raw.evaluation_keys without their last field, in order, so that two overlapping batches can't
            deadlock on them.
        fields: rows of raw.evaluations without their last two fields.
        days: of created_at, as PostgreSQL counts them.
        templates: by identifier.
        feedback: what the rows carry of it, by column.
    """

    keys: Sequence[bytes]
    fields: Sequence[bytes]
    days: frozenset[int]
    templates: Mapping[bytes, str]
    feedback: Sequence[Mapping[str, object]]

    @classmethod
    def of(cls, rows: Sequence[EvaluationRow]) -> "_Copied":
        pack = _KEY_FIELDS.pack
        return cls(
            # The key comes first in its row.
            keys=sorted([pack(5, 16, row.key, 16, row.evaluation_id, 16, row.hash, 4, row.day) for row in rows]),
            fields=[row.fields for row in rows],
            days=frozenset([row.day for row in rows]),
            templates={row.template_id: row.template for row in rows},
            feedback=[row.feedback for row in rows if row.feedback is not None],
        )


@dataclass(frozen=True, slots=True)
class Evaluations:
    """A batch ready to be inserted.

    Attributes:
        tenant_id: whose.
        firsts: one row a key.
        repeats: the others.
        copied: of `firsts`, if it is probable that none has landed before, else None.
    """

    tenant_id: str
    firsts: Sequence[EvaluationRow]
    repeats: Sequence[EvaluationRow]
    copied: _Copied | None

    @classmethod
    def of(cls, tenant_id: str, rows: Sequence[EvaluationRow], *, unseen: bool = False) -> "Evaluations":
        """Make ready.

        Args:
            tenant_id: whose.
            rows: what is admissible of a batch.
            unseen: probably none has landed before. Then their keys are taken without looking first, which is a
                quarter of the server's work; if one is taken after all, the batch is inserted as any other, and
                PostgreSQL's log has an error of it.
        """
        by_key: dict[bytes, EvaluationRow] = {}
        repeats = [row for row in rows if by_key.setdefault(row.key, row) is not row]
        firsts = list(by_key.values())
        return cls(tenant_id, firsts, repeats, _Copied.of(firsts) if unseen and firsts else None)


def insert_evaluations(batch: Evaluations, connection: Connection, batch_id: uuid.UUID) -> Outcome:
    """Insert what is new, within the caller's transaction."""
    tenant_id, firsts, copied = batch.tenant_id, batch.firsts, batch.copied
    judged: list[tuple[EvaluationRow, bool | None]] = []
    new = taken = firsts
    if copied is None or not _copy_keys(connection, tenant_id, copied):
        standing = _standing(connection, firsts)
        judged = [(row, same) for row, same in zip(firsts, standing, strict=True) if same is not None]
        new = [row for row, same in zip(firsts, standing, strict=True) if same is None]
        taken, copied = _take_keys(connection, tenant_id, new)
    if taken:
        _copy(connection, tenant_id, batch_id, copied)
    outcome = Outcome(accepted=len(taken), touched_days={date_of(day) for day in copied.days})
    late = [*batch.repeats, *_without(new, taken)]
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


def _take_keys(
    connection: Connection, tenant_id: str, rows: Sequence[EvaluationRow]
) -> tuple[Sequence[EvaluationRow], _Copied]:
    """Take the keys; return the rows which they were free for, and what COPY takes of those."""
    copied = _Copied.of(rows)
    if not rows or _copy_keys(connection, tenant_id, copied):
        return rows, copied
    # Another batch was quicker, or another record has an evaluation_id: rare, and twice as dear.
    taken = _take_free_keys(connection, tenant_id, rows)
    return taken, _Copied.of(taken)


def _copy_keys(connection: Connection, tenant_id: str, copied: _Copied) -> bool:
    """Take all the keys, or none and return False."""
    try:
        with connection.transaction():
            copy_rows(connection, _COPY_KEYS, copied.keys, last_fields(tenant_id))
    except UniqueViolation:
        return False
    return True


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


def _copy(connection: Connection, tenant_id: str, batch_id: uuid.UUID, copied: _Copied) -> None:
    months = {date_of(day).replace(day=1) for day in copied.days}
    connection.execute(_HOLD_MONTHS)
    connection.execute(_ENSURE_MONTHS, (sorted(months),))
    copy_rows(connection, _COPY, copied.fields, last_fields(tenant_id, batch_id))
    names: dict[str, object] = {"tenant_id": tenant_id, "batch_id": batch_id}
    named = {"template_ids": _uuids(copied.templates), "templates": list(copied.templates.values())}
    connection.execute(_REGISTER_TEMPLATES, names | named)
    if copied.feedback:
        connection.execute(_KEEP_FEEDBACK, names | {"feedback": orjson.dumps(copied.feedback).decode()})


def _without(rows: Sequence[EvaluationRow], taken: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    if len(taken) == len(rows):
        return []
    keys = {row.key for row in taken}
    return [row for row in rows if row.key not in keys]


def _uuids(values: Iterable[bytes]) -> str:
    """An array of UUIDs as PostgreSQL reads it; psycopg would take longer to write it than the server to insert."""
    return "{" + b"".join(values).hex(",", 16) + "}"
