"""Reconciliation: the same evaluations and the same feedback, counted at every door from landing to mart.

Each chain is a list of steps; a step counts by tenant and must equal the one before it. All are counted in one
snapshot while no build is under way, so landings that go on meanwhile make no difference.

Belongs here: what is counted and compared. Does not belong here: anything of Dagster, any repair.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from storage.database import Connection
from storage.locks import AdvisoryLock

_SNAPSHOT = "set transaction isolation level repeatable read, read only"
_LOCK = "select pg_advisory_lock(%(key)s)"
_UNLOCK = "select pg_advisory_unlock(%(key)s)"

_LANDED = {
    "receipts: accepted": """
        select tenant_id, sum(accepted)::bigint from raw.ingest_batches where kind = 'evaluations' group by tenant_id
    """,
    "keys": "select tenant_id, count(*) from raw.evaluation_keys group by tenant_id",
    "rows, dropped months included": """
        select tenant_id, sum(evaluations)::bigint
        from (
            select tenant_id, count(*) as evaluations from raw.evaluations group by tenant_id
            union all
            select tenant_id, evaluation_count from raw.dropped_evaluations
        ) as parts
        group by tenant_id
    """,
}
_IN_WAREHOUSE = {
    "receipts of folded batches: accepted": """
        select receipts.tenant_id, sum(receipts.accepted)::bigint
        from raw.ingest_batches as receipts
        inner join intermediate.int_batches as folded on folded.batch_id = receipts.batch_id
        where receipts.kind = 'evaluations'
        group by receipts.tenant_id
    """,
    "int_batches": """
        select tenant_id, sum(accepted)::bigint from intermediate.int_batches where kind = 'evaluations'
        group by tenant_id
    """,
    "int_evaluations_daily": """
        select tenant_id, sum(evaluation_count)::bigint from intermediate.int_evaluations_daily group by tenant_id
    """,
    "evaluation_daily_stats": """
        select tenant_id, sum(count)::bigint from marts.evaluation_daily_stats group by tenant_id
    """,
    "drift_history": "select tenant_id, sum(evaluation_count)::bigint from marts.drift_history group by tenant_id",
    "extractor_performance": """
        select tenant_id, sum(evaluation_count)::bigint from marts.extractor_performance group by tenant_id
    """,
    "overview": "select tenant_id, total_evaluations from marts.overview",
}
_FEEDBACK_LANDED = {
    "receipts of feedback: accepted": """
        select tenant_id, sum(accepted)::bigint from raw.ingest_batches where kind = 'feedback' group by tenant_id
    """,
    "rows of feedback": """
        select feedback.tenant_id, count(*)
        from raw.feedback as feedback
        inner join raw.ingest_batches as receipts on receipts.batch_id = feedback.batch_id
        where receipts.kind = 'feedback'
        group by feedback.tenant_id
    """,
}
# Known are the evaluations of folded batches; of one that retention dropped, an earlier feedback tells.
_SUBJECTS = """
with known_feedback as (
    select feedback.*
    from staging.stg_feedback as feedback
    inner join intermediate.int_batches as folded on folded.batch_id = feedback.batch_id
),
subjects as (
    select keys.evaluation_id as subject, keys.created_on, feedback.*
    from known_feedback as feedback
    inner join raw.evaluation_keys as keys
        on keys.record_key = feedback.record_key and keys.tenant_id = feedback.tenant_id
    union all
    select keys.evaluation_id as subject, keys.created_on, feedback.*
    from known_feedback as feedback
    inner join raw.evaluation_keys as keys
        on keys.evaluation_id = feedback.evaluation_id and keys.tenant_id = feedback.tenant_id
),
newest as (
    select distinct on (tenant_id, subject) tenant_id, subject, is_success, created_at
    from subjects
    where
        exists (
            select from raw.evaluations as evaluations
            inner join intermediate.int_batches as folded on folded.batch_id = evaluations.batch_id
            where evaluations.evaluation_id = subjects.subject and evaluations.tenant_id = subjects.tenant_id
        )
        or created_on < raw.dropped_before() and exists (
            select from intermediate.int_feedback_versions as versions
            where versions.evaluation_id = subjects.subject and versions.tenant_id = subjects.tenant_id
        )
    order by tenant_id, subject, created_at desc, came_with_evaluation asc, feedback_id desc
),
evaluated as (
    select newest.*, coalesce(evaluations.created_at, dropped.evaluated_at) as evaluated_at
    from newest
    left join raw.evaluations as evaluations
        on evaluations.evaluation_id = newest.subject and evaluations.tenant_id = newest.tenant_id
    left join lateral (
        select versions.evaluated_at from intermediate.int_feedback_versions as versions
        where versions.evaluation_id = newest.subject and versions.tenant_id = newest.tenant_id
        order by versions.fold_id desc
        limit 1
    ) as dropped on evaluations.created_at is null
),
-- From before its evaluation it is quarantined.
counting as (
    select * from evaluated
    where evaluated_at is null or created_at >= evaluated_at - interval '5 minutes'
)
"""
_NEWEST = _SUBJECTS + "select tenant_id, count(*) from counting group by tenant_id"  # noqa: S608 - a constant
_NEWEST_SUCCESSES = (
    _SUBJECTS + "select tenant_id, count(*) from counting where is_success group by tenant_id"  # noqa: S608
)
_FEEDBACK_COUNTED = {
    "newest feedback of known evaluations": _NEWEST,
    "int_feedback_versions": """
        select tenant_id, count(*)
        from (
            select distinct on (tenant_id, evaluation_id) tenant_id, is_early
            from intermediate.int_feedback_versions
            order by tenant_id, evaluation_id, fold_id desc
        ) as latest
        where not is_early
        group by tenant_id
    """,
    "int_evaluations_daily: feedback": """
        select tenant_id, sum(feedback_count)::bigint from intermediate.int_evaluations_daily group by tenant_id
    """,
    "extractor_performance: feedback": """
        select tenant_id, sum(feedback_count)::bigint from marts.extractor_performance group by tenant_id
    """,
}
_SUCCESSES = {
    "newest feedback of known evaluations: success": _NEWEST_SUCCESSES,
    "int_evaluations_daily: success": """
        select tenant_id, sum(success_count)::bigint from intermediate.int_evaluations_daily group by tenant_id
    """,
    "extractor_performance: success": """
        select tenant_id, sum(success_count)::bigint from marts.extractor_performance group by tenant_id
    """,
}
_CHAINS = (_LANDED, _IN_WAREHOUSE, _FEEDBACK_LANDED, _FEEDBACK_COUNTED, _SUCCESSES)

# Whatever committed before the newest fold looked is in a fold; what is not, no increment will ever find again.
_LOST = """
select receipts.tenant_id, count(*)
from raw.ingest_batches as receipts
where
    receipts.xact_id < (select max(horizon) from intermediate.int_batches)
    and (select max(horizon) from intermediate.int_batches) <= pg_snapshot_xmin(pg_current_snapshot())
    and not exists (select from intermediate.int_batches as folded where folded.batch_id = receipts.batch_id)
group by receipts.tenant_id
"""

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Step:
    """One count: what, and how many of each tenant."""

    name: str
    counts: Counts


@dataclass(frozen=True)
class Difference:
    """A tenant of whom a step counts otherwise than the step before it."""

    step: str
    before: str
    tenant_id: str
    count: int
    expected: int

    def __str__(self) -> str:
        return f"{self.step}: {self.count} of tenant {self.tenant_id}, where {self.before} has {self.expected}"


@dataclass(frozen=True)
class Reconciliation:
    """All steps in order, and where they differ."""

    steps: Sequence[Step]
    differences: Sequence[Difference]

    @property
    def holds(self) -> bool:
        """Whether every step counts the same."""
        return not self.differences


def reconcile(connection: Connection) -> Reconciliation:
    """Count and compare, from receipts to marts.

    Args:
        connection: of the platform, in autocommit mode.
    """
    key = {"key": AdvisoryLock.WAREHOUSE_BUILD.value}
    # Taken before the snapshot, and held by the session: a build that ends in between would be half in it.
    connection.execute(_LOCK, key)
    try:
        with connection.transaction():
            connection.execute(_SNAPSHOT)
            chains = [[Step(name, _counts(connection, query)) for name, query in chain.items()] for chain in _CHAINS]
            lost = Step("batches that no fold has", _counts(connection, _LOST))
    finally:
        connection.execute(_UNLOCK, key)
    differences = [difference for chain in [*chains, [Step("folds", {}), lost]] for difference in _compare(chain)]
    return Reconciliation([*(step for chain in chains for step in chain), lost], differences)


def _counts(connection: Connection, query: str) -> dict[str, int]:
    return dict(connection.execute(query.encode()).fetchall())


def _compare(chain: Sequence[Step]) -> Iterator[Difference]:
    for before, step in pairwise(chain):
        for tenant_id in sorted(before.counts.keys() | step.counts.keys()):
            count, expected = step.counts.get(tenant_id, 0), before.counts.get(tenant_id, 0)
            if count != expected:
                yield Difference(step.name, before.name, tenant_id, count, expected)
