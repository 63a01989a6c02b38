"""Landing: the one function through which every door puts records into `raw`.

One call lands one batch in one transaction: good rows, dead letters, conflicts and the receipt stand or fall together,
and the caller gets its answer after the commit (DESIGN invariant 1). Landing the same record again, by any door and in
any order, leaves the same rows (invariant 2).
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import psycopg

from assets.evaluations.evaluation_rows import insert_evaluations
from assets.evaluations.feedback_rows import insert_feedback
from assets.evaluations.verdicts import Kind, Line, Problem, Receipt, in_line_order
from storage.database import Connection

InTransaction = Callable[[Connection, Receipt], None]

_ATTEMPTS = 3

_KEEP_PROBLEM = """
insert into raw.rejected_records as kept
    (tenant_id, kind, verdict, batch_id, line, field, code, reason, payload, record, occurrences)
values
    (%(tenant_id)s, %(kind)s, %(verdict)s, %(batch_id)s, %(line)s, %(field)s, %(code)s, %(reason)s, %(payload)s,
     %(record)s, %(occurrences)s)
on conflict (tenant_id, kind, verdict, payload_sha256) do update set
    occurrences = kept.occurrences + excluded.occurrences,
    last_received_at = excluded.last_received_at
"""

_WRITE_RECEIPT = """
insert into raw.ingest_batches
    (batch_id, tenant_id, kind, door, source, accepted, duplicates, conflicts, rejected, touched_days)
values
    (%(batch_id)s, %(tenant_id)s, %(kind)s, %(door)s, %(source)s, %(accepted)s, %(duplicates)s, %(conflicts)s,
     %(rejected)s, %(touched_days)s)
"""


def land(
    connection: Connection,
    tenant_id: str,
    kind: Kind,
    lines: Sequence[Line],
    *,
    door: str,
    now: datetime,
    source: str | None = None,
    in_transaction: InTransaction | None = None,
) -> Receipt:
    """Land one batch of evaluations or of feedback and return its receipt, after the commit.

    Args:
        connection: in autocommit mode: the landing is a transaction of its own.
        tenant_id: an existing tenant.
        kind: what the lines are.
        lines: the batch; as many as fit memory comfortably (doors use 10,000).
        door: through which door they came (`cli`, `http`, …).
        now: the server's time, aware.
        source: what the sender calls it (a file's name), for people.
        in_transaction: called last before the commit, with what must stand or fall with the batch; again if the
            landing has to be repeated.
    """
    assert connection.autocommit, "land() commits by itself, so it can't be part of another transaction"  # noqa: S101
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _land_once(connection, tenant_id, kind, lines, door, now, source, in_transaction)
        except psycopg.errors.DeadlockDetected:
            # Keys are taken in order, which leaves only evaluation_ids crossed between two batches. Repeating is safe.
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _land_once(
    connection: Connection,
    tenant_id: str,
    kind: Kind,
    lines: Sequence[Line],
    door: str,
    now: datetime,
    source: str | None,
    in_transaction: InTransaction | None,
) -> Receipt:
    insert = insert_evaluations if kind == "evaluations" else insert_feedback
    with connection.transaction():
        batch_id = _new_batch_id(connection)
        outcome = insert(connection, tenant_id, batch_id, lines, now)
        receipt = Receipt(batch_id, outcome.accepted, outcome.duplicates, in_line_order(outcome.problems))
        _keep_problems(connection, tenant_id, kind, batch_id, receipt.problems)
        connection.execute(
            _WRITE_RECEIPT,
            {
                "batch_id": batch_id,
                "tenant_id": tenant_id,
                "kind": kind,
                "door": door,
                "source": source,
                "accepted": receipt.accepted,
                "duplicates": receipt.duplicates,
                "conflicts": receipt.conflicts,
                "rejected": receipt.rejected,
                "touched_days": sorted(outcome.touched_days),
            },
        )
        connection.execute("select pg_notify('tidemark_batches', %s)", (tenant_id,))
        if in_transaction is not None:
            in_transaction(connection, receipt)
    return receipt


def _new_batch_id(connection: Connection) -> uuid.UUID:
    row = connection.execute("select uuidv7()").fetchone()
    assert row is not None  # noqa: S101 - a select without a from clause has a row
    batch_id: uuid.UUID = row[0]
    return batch_id


def _keep_problems(
    connection: Connection, tenant_id: str, kind: Kind, batch_id: uuid.UUID, problems: Iterable[Problem]
) -> None:
    kept: dict[tuple[str, bytes], dict[str, object]] = {}
    occurrences: dict[tuple[str, bytes], int] = {}
    for problem in problems:
        identity = (problem.verdict, problem.line.payload)
        occurrences[identity] = occurrences.get(identity, 0) + 1
        kept.setdefault(
            identity,
            {
                "tenant_id": tenant_id,
                "kind": kind,
                "verdict": problem.verdict,
                "batch_id": batch_id,
                "line": problem.line.number,
                "field": problem.field,
                "code": problem.code,
                "reason": problem.reason,
                "payload": problem.line.payload,
                "record": problem.line.record,
            },
        )
    # In one order for all batches, so that two that share dead letters can't deadlock on them.
    rows = [row | {"occurrences": occurrences[identity]} for identity, row in sorted(kept.items())]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(_KEEP_PROBLEM, rows)
