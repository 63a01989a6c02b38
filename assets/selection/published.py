"""What is published: recommendations as they hold now, read from their snapshots.

Belongs here: SQL that reads them, for one tenant. Does not belong here: publishing (`publishing`), choosing
(`recommend`).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from assets.selection.policies import find_template
from assets.selection.recommend import Arm, Recommendation
from storage.database import Connection
from storage.errors import ConflictError

# Sent with the tenant as its payload whenever other recommendations hold.
CHANNEL = "tidemark_recommendations"

_CURRENT = """
select
    tenant_id, template_id, template, snapshot_id, objective, decision, reason, assigned_by, value_remaining,
    evidence_to, is_recommended, is_incumbent, is_cheapest, extractor_vendor, extractor_model, mean, lower, upper,
    p_best, expected_loss, p_worse_than_incumbent, share_lo, share_hi, feedback_count, success_count, failure_count,
    mean_cost_usd, mean_latency_ms
from ml.extractor_recommendations
where tenant_id = %(tenant_id)s and (%(template_id)s::uuid is null or template_id = %(template_id)s)
order by template_id, p_best desc, mean desc, extractor_vendor, extractor_model
"""
_HEADER = 10
_ARM = 13


def read_recommendations(connection: Connection, tenant_id: str) -> dict[str, Recommendation]:
    """A tenant's recommendations as they hold now, by template."""
    rows = connection.execute(_CURRENT, {"tenant_id": tenant_id, "template_id": None})
    return {found.template: found for found in _recommendations(rows)}


def read_recommendation(connection: Connection, tenant_id: str, template: str) -> Recommendation:
    """The recommendation for one template.

    Raises:
        NotFoundError: the tenant has no such template; the message names those it has.
        ConflictError: nothing is published for it yet.
    """
    template_id = find_template(connection, tenant_id, template)
    rows = connection.execute(_CURRENT, {"tenant_id": tenant_id, "template_id": template_id})
    for found in _recommendations(rows):
        return found
    raise ConflictError(
        "no feedback on this template's extractors yet, or all of them are retired. Send some (tidemark feedback FILE "
        "--tenant T), then run: tidemark refresh; or bring one back: tidemark selection restore"
    )


def _recommendations(rows: Iterable[tuple[Any, ...]]) -> Iterator[Recommendation]:
    for header, group in groupby(rows, key=lambda row: row[:_HEADER]):
        yield _recommendation(header, list(group))


def _recommendation(header: tuple[Any, ...], rows: Sequence[tuple[Any, ...]]) -> Recommendation:
    _, template_id, template, snapshot_id, objective, decision, reason, assigned_by, value_remaining, evidence_to = (
        header
    )
    marked = [next((Arm(*row[_ARM:]).extractor for row in rows if row[mark]), None) for mark in range(_HEADER, _ARM)]
    recommended, incumbent, cheapest = marked
    assert recommended is not None  # noqa: S101 - publishing chooses among these
    return Recommendation(
        snapshot_id=snapshot_id,
        template_id=template_id,
        template=template,
        objective=objective,
        decision=decision,
        reason=reason,
        recommended=recommended,
        is_overridden=assigned_by == "override",
        incumbent=incumbent,
        cheapest=cheapest,
        value_remaining=value_remaining,
        evidence_to=evidence_to,
        arms=[Arm(*row[_ARM:]) for row in rows],
    )
