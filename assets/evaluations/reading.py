"""Evaluations read back as they landed: pages of them, one with all it has, and those nearest to it.

Belongs here: reading `raw.evaluations`. Does not belong here: figures made from many of them (dbt's marts).

Every statement asks for the tenant although row-level security lets no other's rows through: two locks, and an index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import dict_row

from assets.evaluations.contract import template_id
from storage.database import Connection
from storage.errors import NotFoundError, UsageError

# So many of the newest are compared. An index over embeddings would cost each landing more than it saves a search.
NEAREST_AMONG = 50_000

_COLUMNS = """
    evaluation_id, record_id, template, template_version, extractor_vendor, extractor_model, drift_score,
    reliability_score, decision, created_at, score, label, propensity, batch_id, batch_key, correlation_id,
    decision_id, eligible_extractors, assigned_by, snapshot_id, cost_usd, latency_ms
"""

_WANTED = """
    tenant_id = %(tenant_id)s
    and (%(template_id)s::uuid is null or template_id = %(template_id)s)
    and (%(extractor_vendor)s::text is null or extractor_vendor = %(extractor_vendor)s)
    and (%(extractor_model)s::text is null or extractor_model = %(extractor_model)s)
    and (%(label)s::text is null or label = %(label)s)
    and (%(decision)s::text is null or decision = %(decision)s)
    and (%(drift_score_min)s::double precision is null or drift_score >= %(drift_score_min)s)
    and (%(drift_score_max)s::double precision is null or drift_score <= %(drift_score_max)s)
    and (%(reliability_score_min)s::double precision is null or reliability_score >= %(reliability_score_min)s)
    and (%(reliability_score_max)s::double precision is null or reliability_score <= %(reliability_score_max)s)
    and (%(score_min)s::double precision is null or score >= %(score_min)s)
    and (%(score_max)s::double precision is null or score <= %(score_max)s)
    and (%(since)s::timestamptz is null or created_at >= %(since)s)
    and (%(until)s::timestamptz is null or created_at < %(until)s)
"""

# The index on (tenant_id, created_at, evaluation_id, template_id) has them in this order. A month without statistics
# would be sorted whole instead, for every page again.
_FOLLOW_THE_INDEX = """
select set_config(name, 'off', true) from unnest(array['enable_sort', 'enable_seqscan', 'enable_bitmapscan']) as name
"""

_PAGE = f"""
select {_COLUMNS}
from raw.evaluations
where
    {_WANTED}
    and (%(after_at)s::timestamptz is null or (created_at, evaluation_id) < (%(after_at)s, %(after_id)s::uuid))
order by created_at desc, evaluation_id desc
limit %(limit)s
"""  # noqa: S608 - constants

# Feedback counts as in int_feedback_versions: the newest, and of two that are as new never by arrival.
_ONE = f"""
select
    {_COLUMNS}, features::text as features, embedding::real [] as embedding,
    (
        select jsonb_build_object(
            'success', coalesce(success, fields_correct = fields_total),
            'fields_correct', fields_correct,
            'fields_total', fields_total,
            'created_at', to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        )
        from raw.feedback
        where
            feedback.tenant_id = evaluations.tenant_id
            and (feedback.record_key = evaluations.record_key or feedback.evaluation_id = evaluations.evaluation_id)
        order by created_at desc, coalesce(feedback_id = feedback.record_key, false) asc, feedback_id desc
        limit 1
    ) as feedback
from raw.evaluations as evaluations
where tenant_id = %(tenant_id)s and evaluation_id = %(evaluation_id)s
"""  # noqa: S608 - constants

_EMBEDDING = """
select embedding::text from raw.evaluations where tenant_id = %(tenant_id)s and evaluation_id = %(evaluation_id)s
"""

# The search itself carries nothing but distances: whole rows come for those that are found.
_NEAREST = f"""
with searched as materialized (
    select evaluation_id, created_at, embedding <=> %(embedding)s::halfvec as distance
    from raw.evaluations
    where {_WANTED}
    order by created_at desc, evaluation_id desc
    limit %(among)s
),

extent as (
    select count(*) as evaluations, count(distance) as with_embedding, min(created_at) as since from searched
),

nearest as (
    select evaluation_id, distance from searched
    where distance is not null and evaluation_id <> %(evaluation_id)s
    order by distance, evaluation_id
    limit %(k)s
)

select extent.*, nearest.*
from extent
left join nearest on true
order by distance, evaluation_id
"""  # noqa: S608 - constants

_FOUND = f"""
select {_COLUMNS} from raw.evaluations where tenant_id = %(tenant_id)s and evaluation_id = any(%(evaluation_ids)s)
"""  # noqa: S608 - constants


@dataclass(frozen=True)
class Wanted:
    """Which evaluations: all of a tenant that have every value given; scores within their bounds, both included.

    Attributes:
        since: not created before it, aware.
        until: created before it, aware.
    """

    template: str | None = None
    extractor_vendor: str | None = None
    extractor_model: str | None = None
    label: str | None = None
    decision: str | None = None
    drift_score_min: float | None = None
    drift_score_max: float | None = None
    reliability_score_min: float | None = None
    reliability_score_max: float | None = None
    score_min: float | None = None
    score_max: float | None = None
    since: datetime | None = None
    until: datetime | None = None


class Nearest(NamedTuple):
    """The evaluations nearest to one, the nearest first, and among which they were searched.

    Attributes:
        found: rows with their cosine `distance` in [0, 2], None where an embedding is all zeros.
        searched: how many `evaluations`, how many of them `with_embedding`, `since` which time.
    """

    found: Sequence[Mapping[str, Any]]
    searched: Mapping[str, Any]


def find_evaluations(
    connection: Connection,
    tenant_id: str,
    wanted: Wanted,
    *,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """A tenant's evaluations without features and embedding, the newest first.

    What it costs depends on the rows passed over, which only filters other than the times add to.

    Args:
        connection: in a transaction, whose planning it changes.
        tenant_id: whose evaluations; an unknown tenant has none.
        wanted: which of them.
        after: `created_at` and `evaluation_id` of the last one of the page before.
        limit: how many at most.
    """
    after_at, after_id = after or (None, None)
    values = {**_values(tenant_id, wanted), "after_at": after_at, "after_id": after_id, "limit": limit}
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_FOLLOW_THE_INDEX)
        return cursor.execute(_PAGE, values).fetchall()


def read_evaluation(connection: Connection, tenant_id: str, evaluation_id: UUID) -> dict[str, Any]:
    """One evaluation with everything that is kept of it, and the newest feedback on it.

    Returns:
        Its columns; `features` as JSON text, because JSON holds numbers that Python's types don't; `embedding` as 384
        numbers; `feedback` as success, fields_correct, fields_total and created_at. None where there is none.

    Raises:
        NotFoundError: the tenant has no such evaluation, or retention has dropped it.
    """
    names = {"tenant_id": tenant_id, "evaluation_id": evaluation_id}
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_ONE, names).fetchone()
    if row is None:
        raise _unknown(evaluation_id)
    return row


def nearest_evaluations(
    connection: Connection,
    tenant_id: str,
    evaluation_id: UUID,
    wanted: Wanted,
    *,
    k: int = 10,
    among: int = NEAREST_AMONG,
) -> Nearest:
    """The `k` evaluations whose embeddings are nearest to one's, exactly, of the newest `among` of those wanted.

    Args:
        connection: in a transaction, whose planning it changes.
        tenant_id: whose evaluations.
        evaluation_id: the one that the others are compared with; it isn't among them.
        wanted: which of the others.
        k: how many at most.
        among: of how many at most; those without an embedding count too.

    Raises:
        NotFoundError: the tenant has no such evaluation.
        UsageError: it has no embedding.
    """
    names = {"tenant_id": tenant_id, "evaluation_id": evaluation_id}
    target = connection.execute(_EMBEDDING, names).fetchone()
    if target is None:
        raise _unknown(evaluation_id)
    if target[0] is None:
        raise UsageError("this evaluation came without an embedding, so nothing can be nearest to it")
    values = {**_values(tenant_id, wanted), **names, "embedding": target[0], "k": k, "among": among}
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_FOLLOW_THE_INDEX)
        nearest = cursor.execute(_NEAREST, values).fetchall()
        distances = {row["evaluation_id"]: row["distance"] for row in nearest if row["evaluation_id"]}
        rows = cursor.execute(_FOUND, {"tenant_id": tenant_id, "evaluation_ids": list(distances)}).fetchall()
    by_id = {row["evaluation_id"]: row for row in rows}
    return Nearest(
        # What retention drops between the two statements is found no more.
        found=[by_id[found] | {"distance": distance} for found, distance in distances.items() if found in by_id],
        searched={name: nearest[0][name] for name in ("evaluations", "with_embedding", "since")},
    )


def _values(tenant_id: str, wanted: Wanted) -> dict[str, Any]:
    chosen = None if wanted.template is None else template_id(tenant_id, wanted.template)
    return {**asdict(wanted), "tenant_id": tenant_id, "template_id": chosen}


def _unknown(evaluation_id: UUID) -> NotFoundError:
    return NotFoundError("evaluation", evaluation_id, "the tenant has none of this identifier, or no more")
