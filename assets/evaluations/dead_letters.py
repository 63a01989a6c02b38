"""What did not land, kept byte for byte with its reason: `raw.rejected_records`."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from assets.evaluations.verdicts import Kind, Problem
from storage.database import Connection

# The same record refused anew after a replay had landed them are a new matter: it shows again.
_KEEP = """
insert into raw.rejected_records as kept
    (tenant_id, kind, verdict, batch_id, line, field, code, reason, payload, record, occurrences)
select
    %(tenant_id)s, %(kind)s, verdict, %(batch_id)s, line, field, code, reason, payload, record, occurrences
from unnest(
    %(verdicts)s::text[], %(lines)s::bigint[], %(fields)s::text[], %(codes)s::text[], %(reasons)s::text[],
    %(payloads)b::bytea[], %(records)b::bytea[], %(occurrences)s::bigint[]
) as problems (verdict, line, field, code, reason, payload, record, occurrences)
on conflict (tenant_id, kind, verdict, identity) do update set
    occurrences = kept.occurrences + excluded.occurrences,
    last_received_at = excluded.last_received_at,
    replayed_at = null
"""


@dataclass(slots=True)
class _Kept:
    problem: Problem
    occurrences: int


def keep_problems(
    connection: Connection, tenant_id: str, kind: Kind, batch_id: uuid.UUID, problems: Sequence[Problem]
) -> None:
    """Keep each of them once, however often it came, within the caller's transaction."""
    if not problems:
        return
    kept: dict[tuple[str, bytes, bytes], _Kept] = {}
    for problem in problems:
        line = problem.line
        kept.setdefault((problem.verdict, line.payload, line.record or b""), _Kept(problem, 0)).occurrences += 1
    # In one order for all batches, so that two that share dead letters can't deadlock on them.
    rows = [item for _, item in sorted(kept.items(), key=itemgetter(0))]
    ordered = [item.problem for item in rows]
    connection.execute(
        _KEEP,
        {
            "tenant_id": tenant_id,
            "kind": kind,
            "batch_id": batch_id,
            "verdicts": [problem.verdict for problem in ordered],
            "lines": [problem.line.number for problem in ordered],
            "fields": [problem.field for problem in ordered],
            "codes": [problem.code for problem in ordered],
            "reasons": [problem.reason for problem in ordered],
            "payloads": [problem.line.payload for problem in ordered],
            "records": [problem.line.record for problem in ordered],
            "occurrences": [item.occurrences for item in rows],
        },
    )
