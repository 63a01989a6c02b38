"""Evaluations on their way into `raw`: judged in Python, staged with COPY, made unique by PostgreSQL."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache

import orjson

from assets.evaluations.contract import (
    EVALUATION,
    Evaluation,
    Refused,
    canonical,
    derived_record_id,
    parse,
    payload_hash,
    record_key,
    template_id,
)
from assets.evaluations.verdicts import Line, Problem
from storage.database import Connection

_template_id = lru_cache(maxsize=4096)(template_id)

# One staging table a connection: making one a batch would swell PostgreSQL's catalogue.
_STAGE = """
create temporary table if not exists landing_stage (
    record_key uuid, record_id text, evaluation_id uuid, payload_hash uuid, template_id uuid, template text,
    template_version text, extractor_vendor text, extractor_model text, drift_score double precision,
    reliability_score double precision, decision text, created_at timestamptz, score double precision, label text,
    propensity double precision, batch_key text, correlation_id text, features jsonb, embedding halfvec(384),
    success boolean, fields_correct integer, fields_total integer
) on commit delete rows
"""
_COPY = "copy landing_stage from stdin"

# The keys' unique index is the judge of what is new; ordered, so that two overlapping batches can't deadlock on it.
_INSERT_NEW = """
with staged as materialized (
    select coalesce(evaluation_id, uuidv7()) as own_evaluation_id, stage.* from landing_stage as stage
),
fresh as (
    insert into raw.evaluation_keys (record_key, tenant_id, evaluation_id, payload_hash, created_on)
    select record_key, %(tenant_id)s, own_evaluation_id, payload_hash, (created_at at time zone 'UTC')::date
    from staged order by record_key
    on conflict do nothing
    returning record_key
)
insert into raw.evaluations (
    evaluation_id, tenant_id, record_key, record_id, batch_id, template_id, template, template_version,
    extractor_vendor, extractor_model, drift_score, reliability_score, decision, created_at, score, label, propensity,
    batch_key, correlation_id, features, embedding
)
select
    own_evaluation_id, %(tenant_id)s, record_key, record_id, %(batch_id)s, template_id, template, template_version,
    extractor_vendor, extractor_model, drift_score, reliability_score, coalesce(decision, 'undecided'), created_at,
    score, label, propensity, batch_key, correlation_id, features, embedding
from staged inner join fresh using (record_key)
returning record_key
"""

_STORED_HASHES = "select record_key, payload_hash from raw.evaluation_keys where record_key = any(%s)"

_REGISTER_TEMPLATES = """
insert into access.templates (template_id, tenant_id, template, first_batch_id, first_seen_at)
select distinct template_id, %(tenant_id)s, template, %(batch_id)s::uuid, clock_timestamp()
from landing_stage
where record_key = any(%(accepted)s)
    and not exists (select 1 from access.templates as known where known.template_id = landing_stage.template_id)
order by template_id
on conflict do nothing
"""

_KEEP_FEEDBACK = """
insert into raw.feedback
    (feedback_id, tenant_id, batch_id, record_key, payload_hash, success, fields_correct, fields_total, created_at)
select
    record_key, %(tenant_id)s, %(batch_id)s, record_key, payload_hash, success, fields_correct, fields_total,
    created_at
from landing_stage
where record_key = any(%(accepted)s) and num_nonnulls(success, fields_total) > 0
on conflict do nothing
"""


@dataclass
class Outcome:
    """What became of a batch's lines, before it is committed."""

    accepted: int = 0
    duplicates: int = 0
    problems: list[Problem] = field(default_factory=list)
    touched_days: set[date] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Judged:
    line: Line
    record: Evaluation
    record_id: str
    key: uuid.UUID
    hash: uuid.UUID


def insert_evaluations(
    connection: Connection, tenant_id: str, batch_id: uuid.UUID, lines: Sequence[Line], now: datetime
) -> Outcome:
    """Judge the lines and insert what is new, within the caller's transaction."""
    outcome = Outcome()
    firsts: dict[uuid.UUID, _Judged] = {}
    repeats: list[_Judged] = []
    for line in lines:
        try:
            judged = _judge(tenant_id, line, now)
        except Refused as why:
            outcome.problems.append(Problem.rejected(line, why))
            continue
        if firsts.setdefault(judged.key, judged) is not judged:
            repeats.append(judged)
    if firsts:
        accepted = _insert_new(connection, tenant_id, batch_id, firsts.values())
        outcome.accepted = len(accepted)
        outcome.touched_days = {firsts[key].record.created_at.date() for key in accepted}
        _judge_the_rest(connection, outcome, firsts, repeats, accepted)
    return outcome


def _judge(tenant_id: str, line: Line, now: datetime) -> _Judged:
    if line.refused is not None:
        raise line.refused
    record = parse(EVALUATION, line.payload if line.record is None else line.record, now)
    content = canonical(record)
    record_id = record.record_id or derived_record_id(content)
    return _Judged(line, record, record_id, record_key(tenant_id, record_id), payload_hash(content))


def _insert_new(
    connection: Connection, tenant_id: str, batch_id: uuid.UUID, judged: Iterable[_Judged]
) -> set[uuid.UUID]:
    judged = list(judged)
    months = {item.record.created_at.date().replace(day=1) for item in judged}
    connection.execute("select raw.ensure_evaluations_month(month) from unnest(%s::date[]) as month", (sorted(months),))
    connection.execute(_STAGE)
    with connection.cursor() as cursor:
        with cursor.copy(_COPY) as copy:
            for item in judged:
                copy.write_row(_stage_row(tenant_id, item))
        names = {"tenant_id": tenant_id, "batch_id": batch_id}
        accepted = {row[0] for row in cursor.execute(_INSERT_NEW, names)}
        if accepted:
            names |= {"accepted": list(accepted)}
            cursor.execute(_REGISTER_TEMPLATES, names)
            if any(item.record.has_feedback for item in judged):
                cursor.execute(_KEEP_FEEDBACK, names)
    return accepted


def _stage_row(tenant_id: str, item: _Judged) -> tuple[object, ...]:
    record = item.record
    return (
        item.key,
        item.record_id,
        record.evaluation_id,
        item.hash,
        _template_id(tenant_id, record.template),
        record.template,
        record.template_version,
        record.extractor_vendor,
        record.extractor_model,
        record.drift_score,
        record.reliability_score,
        record.decision,
        record.created_at,
        record.score,
        record.label,
        record.propensity,
        record.batch_key,
        record.correlation_id,
        None if record.features is None else orjson.dumps(record.features).decode(),
        None if record.embedding is None else orjson.dumps(record.embedding).decode(),
        record.success,
        record.fields_correct,
        record.fields_total,
    )


def _judge_the_rest(
    connection: Connection,
    outcome: Outcome,
    firsts: dict[uuid.UUID, _Judged],
    repeats: list[_Judged],
    accepted: set[uuid.UUID],
) -> None:
    old = [item for key, item in firsts.items() if key not in accepted]
    keys = [item.key for item in (*old, *repeats)]
    stored: dict[uuid.UUID, uuid.UUID] = dict(connection.execute(_STORED_HASHES, (keys,)).fetchall()) if keys else {}
    for item in (*old, *repeats):
        if item.key not in stored:
            # Its record_id is new, so what stood in its way is another record's evaluation_id.
            outcome.problems.append(Problem.conflict(item.line, "evaluation_id"))
        elif stored[item.key] == item.hash:
            outcome.duplicates += 1
        else:
            outcome.problems.append(Problem.conflict(item.line, "record_id"))
