"""Dead letters judged again, by today's contract: what passes now lands, the rest stays with its reason of today.

A transaction lands some of them and notes that it did, so a replay that is killed is finished by the next one.
Conflicts are not replayed: the first record stands, the other one is kept as evidence.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import NamedTuple

from assets.evaluations.landing import judge, new_batch_id, repeat_after_deadlock, write_receipt
from assets.evaluations.verdicts import Kind, Line, Problem, Receipt
from storage.clock import Clock
from storage.database import Connection
from storage.errors import UsageError

_MOST_AT_ONCE = 1000
_MOST_BYTES_AT_ONCE = 32 * 1024 * 1024
# Refused by a reader, which made no record of it: without its file, or its request, it can't be judged again.
_UNREADABLE = ["csv_row", "encoding", "parquet_value", "otlp_form", "otlp_json", "otlp_protobuf"]

_WAITING = """
select rejects.rejected_id, rejects.kind, rejects.batch_id, rejects.line, batches.source, batches.correlation_id,
    octet_length(rejects.payload) + coalesce(octet_length(rejects.record), 0) as size
from raw.rejected_records as rejects
left join raw.ingest_batches as batches using (batch_id)
where
    rejects.tenant_id = %(tenant_id)s
    and rejects.verdict = 'rejected'
    and rejects.replayed_at is null
    and rejects.code <> all(%(unreadable)s)
    and (%(code)s::text is null or rejects.code = %(code)s)
    and (%(ids)s::uuid[] is null or rejects.rejected_id = any(%(ids)s))
    and (rejects.batch_id, rejects.line, rejects.rejected_id) > (%(batch_id)s, %(line)s, %(rejected_id)s)
order by rejects.batch_id, rejects.line, rejects.rejected_id
limit %(limit)s
"""

_UNREADABLE_WAITING = """
select count(*) from raw.rejected_records
where
    tenant_id = %(tenant_id)s and verdict = 'rejected' and replayed_at is null and code = any(%(unreadable)s)
    and (%(code)s::text is null or code = %(code)s)
    and (%(ids)s::uuid[] is null or rejected_id = any(%(ids)s))
"""

# In the order in which landings take them, so that the two can't deadlock on dead letters.
_TAKE = """
select rejected_id, line, payload, record, last_received_at
from raw.rejected_records
where rejected_id = any(%s) and replayed_at is null
order by payload, coalesce(record, '')
for update
"""

_NOTE_LANDED = "update raw.rejected_records set replayed_at = clock_timestamp() where rejected_id = any(%s)"
_NOTE_REFUSED = """
update raw.rejected_records as rejects
set field = refused.field, code = refused.code, reason = refused.reason
from unnest(%s::uuid[], %s::text[], %s::text[], %s::text[]) as refused (rejected_id, field, code, reason)
where rejects.rejected_id = refused.rejected_id
"""


@dataclass
class ReplayReport:
    """What became of a tenant's dead letters.

    Attributes:
        accepted: landed now.
        duplicates: had landed since by another way.
        rejected: are still refused, or are in conflict with what has landed since.
        unreadable: no records of the file they came in; only the mended file can bring them.
        rejected_codes: how many of the rejected have which code today.
    """

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    unreadable: int = 0
    rejected_codes: Counter[str] = field(default_factory=Counter, compare=False)

    def as_dict(self) -> dict[str, object]:
        """For scripts."""
        return asdict(self)


class _Waiting(NamedTuple):
    rejected_id: uuid.UUID
    kind: Kind
    batch_id: uuid.UUID
    line: int
    source: str | None
    correlation_id: str | None
    size: int


def replay(
    connection: Connection,
    tenant_id: str,
    *,
    clock: Clock,
    ids: Sequence[uuid.UUID] | None = None,
    code: str | None = None,
    on_batch: Callable[[ReplayReport], None] = lambda _: None,
) -> ReplayReport:
    """Judge a tenant's dead letters again; repeating it is harmless.

    Args:
        connection: in autocommit mode.
        tenant_id: an existing tenant.
        clock: the server's time.
        ids: these only.
        code: only those refused with this code.
        on_batch: called after each commit, for progress.

    Raises:
        UsageError: one of `ids` is no dead letter of the tenant.
    """
    names: dict[str, object] = {
        "tenant_id": tenant_id,
        "unreadable": _UNREADABLE,
        "code": code,
        "ids": None if ids is None else list(ids),
        "limit": _MOST_AT_ONCE,
    }
    _require_dead_letters(connection, tenant_id, ids or ())
    row = connection.execute(_UNREADABLE_WAITING, names).fetchone()
    report = ReplayReport(unreadable=row[0] if row else 0)
    for together in _in_batches(connection, names):
        accepted, duplicates, refused = repeat_after_deadlock(
            lambda together=together: _replay_together(connection, tenant_id, together, clock)  # type: ignore[misc]
        )
        report.accepted += accepted
        report.duplicates += duplicates
        report.rejected += len(refused)
        report.rejected_codes.update(refused)
        on_batch(report)
    return report


def _require_dead_letters(connection: Connection, tenant_id: str, ids: Sequence[uuid.UUID]) -> None:
    found: dict[uuid.UUID, str] = dict(
        connection.execute(
            "select rejected_id, verdict from raw.rejected_records where tenant_id = %s and rejected_id = any(%s)",
            (tenant_id, list(ids)),
        ).fetchall()
    )
    for rejected_id in ids:
        if rejected_id not in found:
            raise UsageError(f"tenant {tenant_id!r} has no refused record {rejected_id}: see tidemark rejects list")
        if found[rejected_id] == "conflict":
            raise UsageError(
                f"{rejected_id} is a conflict: the record that landed first stands. Send it under a record_id of its "
                "own to land it too."
            )


def _in_batches(connection: Connection, names: dict[str, object]) -> Iterator[list[_Waiting]]:
    """What waits, by the batch it came in, each time as much as fits memory comfortably."""
    last = _Waiting(uuid.UUID(int=0), "evaluations", uuid.UUID(int=0), 0, None, None, 0)
    while True:
        after = {"batch_id": last.batch_id, "line": last.line, "rejected_id": last.rejected_id}
        page = [_Waiting(*row) for row in connection.execute(_WAITING, names | after)]
        if not page:
            return
        for _, came_together in groupby(page, key=lambda waiting: waiting.batch_id):
            together: list[_Waiting] = []
            for waiting in came_together:
                if together and sum(item.size for item in together) + waiting.size > _MOST_BYTES_AT_ONCE:
                    yield together
                    together = []
                together.append(waiting)
            yield together
        last = page[-1]


def _replay_together(
    connection: Connection, tenant_id: str, together: Sequence[_Waiting], clock: Clock
) -> tuple[int, int, list[str]]:
    came = together[0]
    with connection.transaction():
        taken = connection.execute(_TAKE, ([waiting.rejected_id for waiting in together],)).fetchall()
        ids = {(payload, record): rejected_id for rejected_id, _, payload, record, _ in taken}
        lines = [Line(line, payload, record, received_at=came_at) for _, line, payload, record, came_at in taken]
        judged = judge(tenant_id, came.kind, lines, clock.now())
        batch_id = new_batch_id(connection)
        outcome = judged.insert(connection, batch_id)
        problems = (*judged.rejected, *outcome.problems)
        refused = {ids[problem.line.payload, problem.line.record]: problem for problem in problems}
        _note_refused(connection, refused)
        connection.execute(_NOTE_LANDED, ([key for key in ids.values() if key not in refused],))
        if outcome.accepted or outcome.duplicates:
            # What is refused still was counted by the batch that brought it.
            receipt = Receipt(batch_id, outcome.accepted, outcome.duplicates, ())
            write_receipt(
                connection,
                judged,
                receipt,
                outcome.touched_days,
                door="replay",
                source=came.source,
                correlation_id=came.correlation_id,
            )
    return outcome.accepted, outcome.duplicates, [problem.code for problem in refused.values()]


def _note_refused(connection: Connection, refused: dict[uuid.UUID, Problem]) -> None:
    problems = refused.values()
    columns = [
        list(refused),
        [problem.field for problem in problems],
        [problem.code for problem in problems],
        [problem.reason for problem in problems],
    ]
    connection.execute(_NOTE_REFUSED, columns)
