"""Posterior snapshots: what was learnt of each template, stored once and never changed.

Belongs here: SQL of ml.posterior_snapshots and ml.extractor_posteriors, identity by content. Does not belong here:
learning (`learning`), what is recommended on them (`publishing`).
"""

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from assets.selection.policies import Extractor, Objective
from storage.database import Connection

# Of identifiers that are made of content: the same content is the same snapshot, whenever and wherever it is made.
_SNAPSHOTS = uuid.UUID("b1143c4b-0543-5d0d-8858-f911116bfeb0")

_ONE_LEARNER = "lock table ml.current_posteriors in share row exclusive mode"
_HEADER = """
insert into ml.posterior_snapshots (posterior_id, tenant_id, template_id, template, objective, evidence_to)
values (%(posterior_id)s, %(tenant_id)s, %(template_id)s, %(template)s, %(objective)s, %(evidence_to)s)
on conflict (posterior_id) do nothing
"""
_ARM = """
insert into ml.extractor_posteriors
    (posterior_id, tenant_id, extractor_vendor, extractor_model, feedback_count, success_count, failure_count,
     effective_count, alpha, beta, mean, lower, upper, restarted_on, mean_cost_usd, mean_latency_ms)
values
    (%(posterior_id)s, %(tenant_id)s, %(extractor_vendor)s, %(extractor_model)s, %(feedback_count)s,
     %(success_count)s, %(failure_count)s, %(effective_count)s, %(alpha)s, %(beta)s, %(mean)s, %(lower)s, %(upper)s,
     %(restarted_on)s, %(mean_cost_usd)s, %(mean_latency_ms)s)
on conflict (posterior_id, extractor_vendor, extractor_model) do nothing
"""
_POINT = """
insert into ml.current_posteriors as present (tenant_id, template_id, posterior_id)
values (%(tenant_id)s, %(template_id)s, %(posterior_id)s)
on conflict (tenant_id, template_id) do update set posterior_id = excluded.posterior_id
"""
_POINTERS = "select tenant_id, template_id, posterior_id from ml.current_posteriors"
_FORGET = "delete from ml.current_posteriors where tenant_id = %s and template_id = %s"
_READ = """
select
    known.posterior_id, known.tenant_id, known.template_id, known.template, known.objective, known.evidence_to,
    arms.extractor_vendor, arms.extractor_model, arms.feedback_count, arms.success_count, arms.failure_count,
    arms.effective_count, arms.alpha, arms.beta, arms.mean, arms.lower, arms.upper, arms.restarted_on,
    arms.mean_cost_usd, arms.mean_latency_ms
from ml.current_posteriors as present
inner join ml.posterior_snapshots as known on present.posterior_id = known.posterior_id
inner join ml.extractor_posteriors as arms on known.posterior_id = arms.posterior_id
where %(tenant_id)s::text is null or present.tenant_id = %(tenant_id)s
order by present.tenant_id, present.template_id, arms.extractor_vendor collate "C", arms.extractor_model collate "C"
"""
_HEADER_COLUMNS = 6


class ArmPosterior(NamedTuple):
    """What is known of one extractor on one template; mean and 95 % credible interval of its objective, a rate."""

    extractor_vendor: str
    extractor_model: str
    feedback_count: int
    success_count: int
    failure_count: int
    effective_count: float
    alpha: float
    beta: float
    mean: float
    lower: float
    upper: float
    restarted_on: date | None
    mean_cost_usd: float | None
    mean_latency_ms: float | None

    @property
    def extractor(self) -> Extractor:
        """Who it is."""
        return Extractor(self.extractor_vendor, self.extractor_model)


@dataclass(frozen=True)
class TemplatePosteriors:
    """What is known of a template's extractors, these in the order of their names by code points.

    Attributes:
        stored_as: the snapshot that it was read from. An earlier version of the platform may have stored it, whose
            identifier was made of other content.
    """

    tenant_id: str
    template_id: UUID
    template: str
    objective: Objective
    evidence_to: date
    arms: Sequence[ArmPosterior]
    stored_as: UUID | None = None

    @property
    def posterior_id(self) -> UUID:
        """Of what is stored already its identifier; else one made of the content, of tenant and template too."""
        return self.stored_as or content_id(
            [self.tenant_id, self.template_id, self.template, self.objective, self.evidence_to, self.arms]
        )


def content_id(content: object) -> UUID:
    """The identifier of a snapshot with this content, which `orjson` can write."""
    return uuid.uuid5(_SNAPSHOTS, orjson.dumps(content, default=tuple).decode())


def one_learner(connection: Connection) -> None:
    """Until the transaction ends nobody else learns: taken before reading, no older knowledge follows newer."""
    connection.execute(_ONE_LEARNER)


def write_posteriors(
    connection: Connection, templates: Sequence[TemplatePosteriors], kept: Collection[tuple[str, UUID]] = ()
) -> int:
    """Make these what is known, and nothing else but what is known of the templates (tenant, identifier) in `kept`.

    Snapshots that are there already are left as they are; others stay, for whoever refers to them.

    Returns:
        For how many templates that is something new.
    """
    new = {(known.tenant_id, known.template_id): (known.posterior_id, known) for known in templates}
    with connection.transaction(), connection.cursor() as cursor:
        one_learner(connection)
        old = {(tenant_id, template_id): stored for tenant_id, template_id, stored in cursor.execute(_POINTERS)}
        changed = [(name, known) for key, (name, known) in new.items() if old.get(key) != name]
        gone = [key for key in old if key not in new and key not in kept]
        if changed:
            headers = [_header(name, known) for name, known in changed]
            cursor.executemany(_HEADER, headers)
            cursor.executemany(
                _ARM,
                [
                    {"posterior_id": name, "tenant_id": known.tenant_id} | arm._asdict()
                    for name, known in changed
                    for arm in known.arms
                ],
            )
            cursor.executemany(_POINT, headers)
        if gone:
            cursor.executemany(_FORGET, gone)
    return len(changed) + len(gone)


def _header(posterior_id: UUID, known: TemplatePosteriors) -> dict[str, object]:
    return {
        "posterior_id": posterior_id,
        "tenant_id": known.tenant_id,
        "template_id": known.template_id,
        "template": known.template,
        "objective": known.objective,
        "evidence_to": known.evidence_to,
    }


def read_posteriors(connection: Connection, tenant_id: str | None = None) -> list[TemplatePosteriors]:
    """What is known now, by tenant and template; of all tenants if None is named."""
    return list(_templates(connection.execute(_READ, {"tenant_id": tenant_id})))


def _templates(rows: Iterable[tuple[Any, ...]]) -> Iterable[TemplatePosteriors]:
    for header, arms in groupby(rows, key=lambda row: row[:_HEADER_COLUMNS]):
        stored_as, tenant_id, template_id, template, objective, evidence_to = header
        known = [ArmPosterior(*row[_HEADER_COLUMNS:]) for row in arms]
        yield TemplatePosteriors(tenant_id, template_id, template, objective, evidence_to, known, stored_as)
