"""Where counts come from and posteriors go to: SQL over marts.extractor_performance and ml.extractor_posteriors.

Belongs here: reading, the step from rows to arrays and back, writing. Does not belong here: the mathematics
(posteriors.py).
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

import numpy as np

from assets.selection.posteriors import posteriors
from assets.selection.recommend import ArmPosterior
from storage.database import Connection
from storage.errors import NotFoundError

READ_COUNTS = """
select
    tenant_id, template_id, template, extractor_vendor, extractor_model,
    coalesce(success_count, 0), coalesce(failure_count, 0)
from marts.extractor_performance
order by tenant_id, template_id, extractor_vendor, extractor_model
"""
ONE_WRITER = "lock table ml.extractor_posteriors in share row exclusive mode"
FORGET = """
delete from ml.extractor_posteriors as stored
where not exists (
    select 1
    from unnest(%(tenants)s::text[], %(templates)s::uuid[], %(vendors)s::text[], %(models)s::text[])
        as kept (tenant_id, template_id, extractor_vendor, extractor_model)
    where (kept.tenant_id, kept.template_id, kept.extractor_vendor, kept.extractor_model)
        = (stored.tenant_id, stored.template_id, stored.extractor_vendor, stored.extractor_model)
)
"""
# Rows that say the same as before stay untouched: re-running changes nothing, computed_at included.
WRITE_POSTERIOR = """
insert into ml.extractor_posteriors as stored
    (tenant_id, template_id, template, extractor_vendor, extractor_model, success_count, failure_count,
     alpha, beta, mean, lower, upper, p_best)
values
    (%(tenant_id)s, %(template_id)s, %(template)s, %(extractor_vendor)s, %(extractor_model)s, %(success_count)s,
     %(failure_count)s, %(alpha)s, %(beta)s, %(mean)s, %(lower)s, %(upper)s, %(p_best)s)
on conflict (tenant_id, template_id, extractor_vendor, extractor_model) do update set
    template = excluded.template,
    success_count = excluded.success_count,
    failure_count = excluded.failure_count,
    alpha = excluded.alpha,
    beta = excluded.beta,
    mean = excluded.mean,
    lower = excluded.lower,
    upper = excluded.upper,
    p_best = excluded.p_best,
    computed_at = excluded.computed_at
where
    (stored.template, stored.success_count, stored.failure_count, stored.alpha, stored.beta, stored.mean,
     stored.lower, stored.upper, stored.p_best)
    is distinct from
    (excluded.template, excluded.success_count, excluded.failure_count, excluded.alpha, excluded.beta, excluded.mean,
     excluded.lower, excluded.upper, excluded.p_best)
"""
FIND_TEMPLATE = "select template_id from access.templates where tenant_id = %(tenant_id)s and template = %(template)s"
KNOWN_TEMPLATES = "select template from access.templates where tenant_id = %(tenant_id)s order by template limit 20"
READ_POSTERIORS = """
select extractor_vendor, extractor_model, mean, lower, upper, p_best, success_count, failure_count
from ml.extractor_posteriors
where tenant_id = %(tenant_id)s and template_id = %(template_id)s
order by extractor_vendor, extractor_model
"""


class Counts(NamedTuple):
    """Feedback on one extractor's work on one template."""

    tenant_id: str
    template_id: UUID
    template: str
    extractor_vendor: str
    extractor_model: str
    success_count: int
    failure_count: int


class Arm(NamedTuple):
    """One extractor of a template with its posterior: a row of ml.extractor_posteriors."""

    tenant_id: str
    template_id: UUID
    template: str
    extractor_vendor: str
    extractor_model: str
    success_count: int
    failure_count: int
    alpha: float
    beta: float
    mean: float
    lower: float
    upper: float
    p_best: float

    @property
    def feedback_count(self) -> int:
        """Evaluations whose outcome is known."""
        return self.success_count + self.failure_count


def read_counts(connection: Connection) -> list[Counts]:
    """Feedback counts of every extractor, ordered by tenant, template and extractor."""
    return [Counts(*row) for row in connection.execute(READ_COUNTS)]


def templates_with_feedback(rows: Iterable[Counts]) -> list[list[Counts]]:
    """Rows grouped by template, without the templates on which there is no feedback at all."""
    groups = [list(group) for _, group in groupby(rows, key=lambda row: (row.tenant_id, row.template_id))]
    return [group for group in groups if any(row.success_count + row.failure_count for row in group)]


def posterior_rows(templates: Sequence[Sequence[Counts]]) -> list[list[Arm]]:
    """Posteriors of every template's arms, in the order given.

    Raises:
        CountsError: a count is negative.
    """
    if not templates:
        return []
    shape = len(templates), max(len(arms) for arms in templates)
    successes, failures, mask = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
    for row, arms in enumerate(templates):
        successes[row, : len(arms)] = [arm.success_count for arm in arms]
        failures[row, : len(arms)] = [arm.failure_count for arm in arms]
        mask[row, : len(arms)] = True
    found = posteriors(successes, failures, mask)
    columns = np.stack([found.alpha, found.beta, found.mean, found.lower, found.upper, found.p_best], axis=-1).tolist()
    return [
        [Arm(*arm, *numbers) for arm, numbers in zip(arms, columns[row], strict=False)]
        for row, arms in enumerate(templates)
    ]


def write_posteriors(connection: Connection, arms: Sequence[Arm]) -> int:
    """Make ml.extractor_posteriors hold exactly these rows; returns how many are new, changed or gone."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(ONE_WRITER)
        gone = cursor.execute(
            FORGET,
            {
                "tenants": [arm.tenant_id for arm in arms],
                "templates": [arm.template_id for arm in arms],
                "vendors": [arm.extractor_vendor for arm in arms],
                "models": [arm.extractor_model for arm in arms],
            },
        ).rowcount
        if not arms:
            return gone
        cursor.executemany(WRITE_POSTERIOR, [arm._asdict() for arm in arms])
        return gone + cursor.rowcount


def read_template(connection: Connection, tenant_id: str, template: str) -> list[ArmPosterior]:
    """The stored posteriors of one template's extractors; empty before its first feedback was refreshed.

    Raises:
        NotFoundError: the tenant has no such template; the message names those it has.
    """
    found = connection.execute(FIND_TEMPLATE, {"tenant_id": tenant_id, "template": template}).fetchone()
    if found is None:
        known = [row[0] for row in connection.execute(KNOWN_TEMPLATES, {"tenant_id": tenant_id})]
        listed = f"Known: {', '.join(known)}." if known else "It has none yet: send evaluations with tidemark push."
        raise NotFoundError("template", f"{template!r} of tenant {tenant_id!r}", listed)
    rows = connection.execute(READ_POSTERIORS, {"tenant_id": tenant_id, "template_id": found[0]})
    return [ArmPosterior(*row) for row in rows]
