"""Landing: the one function through which every door puts records into `raw`.

One call lands one batch in one transaction: good rows, dead letters, conflicts and the receipt stand or fall together,
and the caller gets its answer after the commit (DESIGN invariant 1). Landing the same record again, by any door and in
any order, leaves the same rows (invariant 2).
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import TypeVar

import psycopg

from assets.evaluations.dead_letters import keep_problems
from assets.evaluations.evaluation_inserts import Evaluations, insert_evaluations
from assets.evaluations.evaluation_rows import judge_evaluations
from assets.evaluations.feedback_rows import insert_feedback, judge_feedback
from assets.evaluations.verdicts import Kind, Line, Outcome, Problem, Receipt, in_line_order
from storage.database import Connection

InTransaction = Callable[[Connection, Receipt], None]

_ATTEMPTS = 3

_WRITE_RECEIPT = """
insert into raw.ingest_batches
    (batch_id, tenant_id, kind, door, source, correlation_id, accepted, duplicates, conflicts, rejected, touched_days)
values
    (%(batch_id)s, %(tenant_id)s, %(kind)s, %(door)s, %(source)s, %(correlation_id)s, %(accepted)s, %(duplicates)s,
     %(conflicts)s, %(rejected)s, %(touched_days)s)
"""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch as the contract sees it; what PostgreSQL will say of it is still open.

    Attributes:
        tenant_id: whose records they are.
        kind: what they are.
        rejected: what the contract refused.
        insert: inserts the rest, as a batch of that id and within a transaction of its caller.
    """

    tenant_id: str
    kind: Kind
    rejected: Sequence[Problem]
    insert: Callable[[Connection, uuid.UUID], Outcome]


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
    judged = judge(tenant_id, kind, lines, now)
    return land_judged(connection, judged, door=door, source=source, in_transaction=in_transaction)


def judge(tenant_id: str, kind: Kind, lines: Sequence[Line], now: datetime, *, unseen: bool = False) -> Judged:
    """The half of `land` that needs no database; `unseen`: see `Evaluations.of`."""
    if kind == "evaluations":
        rows, rejected = judge_evaluations(tenant_id, lines, now)
        ready = Evaluations.of(tenant_id, rows, unseen=unseen)
        return Judged(tenant_id, kind, rejected, partial(insert_evaluations, ready))
    feedback, rejected = judge_feedback(tenant_id, lines, now)
    return Judged(tenant_id, kind, rejected, partial(insert_feedback, tenant_id, feedback))


def land_judged(
    connection: Connection,
    judged: Judged,
    *,
    door: str,
    source: str | None = None,
    correlation_id: str | None = None,
    in_transaction: InTransaction | None = None,
) -> Receipt:
    """The other half of `land`: returns after the commit.

    Args:
        connection: as for `land`.
        judged: the batch.
        door: as for `land`.
        source: as for `land`.
        correlation_id: of the request that brought it, if there was one.
        in_transaction: as for `land`.
    """
    assert connection.autocommit, "a landing commits by itself, so it can't be part of another transaction"  # noqa: S101

    def once() -> Receipt:
        with connection.transaction():
            batch_id = new_batch_id(connection)
            outcome = judged.insert(connection, batch_id)
            problems = in_line_order([*judged.rejected, *outcome.problems])
            receipt = Receipt(batch_id, outcome.accepted, outcome.duplicates, problems)
            keep_problems(connection, judged.tenant_id, judged.kind, batch_id, problems)
            write_receipt(
                connection,
                judged,
                receipt,
                outcome.touched_days,
                door=door,
                source=source,
                correlation_id=correlation_id,
            )
            if in_transaction is not None:
                in_transaction(connection, receipt)
        return receipt

    return repeat_after_deadlock(once)


def repeat_after_deadlock(work: Callable[[], _Result]) -> _Result:
    """Do what is a transaction of its own, again if it was chosen to end a deadlock.

    Keys and dead letters are taken in order, which leaves few crossings: evaluation_ids between two batches, or a
    replay that meets a push of the same records.
    """
    for _ in range(_ATTEMPTS - 1):
        with suppress(psycopg.errors.DeadlockDetected):
            return work()
    return work()


def new_batch_id(connection: Connection) -> uuid.UUID:
    """A UUIDv7 by the server's clock, so that batches sort by it whoever landed them."""
    row = connection.execute("select uuidv7()").fetchone()
    assert row is not None  # noqa: S101 - a select without a from clause has a row
    batch_id: uuid.UUID = row[0]
    return batch_id


def write_receipt(
    connection: Connection,
    judged: Judged,
    receipt: Receipt,
    touched_days: Iterable[date],
    *,
    door: str,
    source: str | None,
    correlation_id: str | None,
) -> None:
    """Write down what became of a batch and wake who waits for batches, within the caller's transaction."""
    connection.execute(
        _WRITE_RECEIPT,
        {
            "batch_id": receipt.batch_id,
            "tenant_id": judged.tenant_id,
            "kind": judged.kind,
            "door": door,
            "source": source,
            "correlation_id": correlation_id,
            "accepted": receipt.accepted,
            "duplicates": receipt.duplicates,
            "conflicts": receipt.conflicts,
            "rejected": receipt.rejected,
            "touched_days": sorted(touched_days),
        },
    )
    connection.execute("select pg_notify('tidemark_batches', %s)", (judged.tenant_id,))
