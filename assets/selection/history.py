"""What daily feedback there is: from marts.extractor_performance_daily to arrays, tenant by tenant.

Belongs here: SQL that reads, the step from rows to arrays. Does not belong here: what is learnt (`knowledge`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from assets.selection.evidence import DailySums, FieldSums, Floats
from assets.selection.policies import Extractor, Objective, Policy
from storage.database import Connection

# With evidence that halves in a year, what is older would count for less than a third.
WINDOW = timedelta(days=600)

_TENANTS = """
select tenants.tenant_id, tenants.pools_extractors, newest.date
from access.tenants
cross join lateral (
    select max(days.date) as date from marts.extractor_performance_daily as days
    where days.tenant_id = tenants.tenant_id
) as newest
where newest.date is not null
order by tenants.tenant_id
"""
# A row an extractor, its days as numbers of 4 and 8 bytes: as rows and objects they would take ten times the memory.
# Sums are taken in the order of days, so that the same days give the same bits.
_ARMS = """
select
    tenant_id, template_id, template, extractor_vendor, extractor_model,
    sum(cost_sum order by date) / nullif(sum(cost_count), 0)::double precision as mean_cost_usd,
    sum(latency_sum order by date) / nullif(sum(latency_count), 0)::double precision as mean_latency_ms,
    string_agg(int4send(date - %(after)s), '' order by date) as days,
    string_agg(float8send(success_count), '' order by date) as success_count,
    string_agg(float8send(failure_count), '' order by date) as failure_count,
    string_agg(float8send(feedback_count), '' order by date) as feedback_count,
    string_agg(float8send(document_count), '' order by date) as document_count,
    string_agg(float8send(rate_sum), '' order by date) as rate_sum,
    string_agg(float8send(rate_sum_sq), '' order by date) as rate_sum_sq,
    string_agg(float8send(fields_correct), '' order by date) as fields_correct,
    string_agg(float8send(fields_total), '' order by date) as fields_total
from unnest(%(tenant_ids)s::text [], %(newest)s::date []) as tenants (tenant_id, newest)
inner join marts.extractor_performance_daily using (tenant_id)
where date > newest - %(window)s::integer and evaluation_count > 0
group by tenant_id, template_id, template, extractor_vendor, extractor_model
order by tenant_id, template_id, extractor_vendor collate "C", extractor_model collate "C"
"""
_OUTCOMES = ("success_count", "failure_count")
_COUNTS = (*_OUTCOMES, "feedback_count")
_FIELDS = ("document_count", "rate_sum", "rate_sum_sq", "fields_correct", "fields_total")


@dataclass(frozen=True)
class ArmHistory:
    """One extractor on one template.

    Attributes:
        mean_cost_usd: over the evaluations that tell it; None if none does, and so is the latency.
        days: on which it was used, oldest first, as days after the one that the group's window begins after.
        sums: each measure's sums on these days, by its name in the mart.
    """

    extractor: Extractor
    mean_cost_usd: float | None
    mean_latency_ms: float | None
    days: npt.NDArray[np.int32]
    sums: Mapping[str, Floats]

    def total(self, name: str) -> int:
        """A count's sum over all days."""
        return int(self.sums[name].sum())


@dataclass(frozen=True)
class TemplateHistory:
    """One template's extractors, in the order of their names by code points.

    Attributes:
        objective: what is to be high there.
        today: the newest day of its tenant's decisions, up to which its history goes.
    """

    tenant_id: str
    template_id: UUID
    template: str
    objective: Objective
    today: date
    arms: Sequence[ArmHistory]

    def feedback_count(self, arm: ArmHistory) -> int:
        """Evaluations of an arm with feedback on the objective."""
        return sum(arm.total(name) for name in self._judged_by)

    @property
    def has_feedback(self) -> bool:
        """Whether any of its extractors has some."""
        return any(arm.sums[name].any() for arm in self.arms for name in self._judged_by)

    @property
    def _judged_by(self) -> tuple[str, ...]:
        return ("document_count",) if self.objective == "fields" else _OUTCOMES


@dataclass(frozen=True)
class Group:
    """Tenants that learn together, mostly one alone: their days are counted from `after`."""

    templates: Sequence[TemplateHistory]
    after: date
    templates_without_feedback: int


def read_groups(connection: Connection, policies: Mapping[tuple[str, UUID], Policy]) -> Iterator[Group]:
    """The templates with feedback of all tenants; those that agreed to pool are one group.

    Of each tenant the days up to its own newest. One group at a time is in memory.
    """
    for newest in _learning_together(connection.execute(_TENANTS)):
        after = min(newest.values()) - WINDOW
        values = {"tenant_ids": list(newest), "newest": list(newest.values()), "after": after, "window": WINDOW.days}
        found = list(_templates(connection.execute(_ARMS, values, binary=True), policies, newest))
        told = [template for template in found if template.has_feedback]
        yield Group(told, after, len(found) - len(told))


def _learning_together(rows: Iterable[tuple[str, bool, date]]) -> list[dict[str, date]]:
    """Each group's tenants with their newest days.

    Who pools and has been silent for longer than the window has no day in common with the others, and learns alone.
    """
    tenants = list(rows)
    latest = max((newest for _, pools, newest in tenants if pools), default=date.min)
    pooled = {tenant: newest for tenant, pools, newest in tenants if pools and latest - newest < WINDOW}
    alone = [{tenant: newest} for tenant, _, newest in tenants if tenant not in pooled]
    return [*alone, pooled] if pooled else alone


def first_day(group: Group) -> date:
    """The first day on which any of a group's extractors was used."""
    return group.after + timedelta(days=min(int(arm.days[0]) for each in group.templates for arm in each.arms))


def daily_sums(group: Group) -> DailySums:
    """A group's feedback as arrays; the first column is its first day, the last the newest of any of its tenants."""
    templates = group.templates
    first = first_day(group)
    before = (first - group.after).days
    days = (max(template.today for template in templates) - first).days + 1
    shape = len(templates), max(len(template.arms) for template in templates), days
    by_fields = np.array([template.objective == "fields" for template in templates])
    names = (*_COUNTS, *_FIELDS) if by_fields.any() else _COUNTS
    sums: dict[str, Floats] = {name: np.zeros(shape) for name in names}
    mask = np.zeros(shape[:2], dtype=bool)
    for row, template in enumerate(templates):
        for column, arm in enumerate(template.arms):
            mask[row, column] = True
            for name, values in sums.items():
                values[row, column, arm.days - before] = arm.sums[name]
    fields = FieldSums(**{name: sums[name] for name in _FIELDS}) if by_fields.any() else None
    success, failure, feedback = (sums[name] for name in _COUNTS)
    return DailySums(mask, success, failure, by_fields, fields, feedback)


def _templates(
    rows: Iterable[tuple[Any, ...]], policies: Mapping[tuple[str, UUID], Policy], newest: Mapping[str, date]
) -> Iterator[TemplateHistory]:
    for (tenant_id, template_id, template), of_template in groupby(rows, key=lambda row: row[:3]):
        policy = policies.get((tenant_id, template_id), Policy())
        about = tenant_id, template_id, template, policy.objective, newest[tenant_id]
        yield TemplateHistory(*about, list(map(_arm, of_template)))


def _arm(row: tuple[Any, ...]) -> ArmHistory:
    vendor, model, mean_cost_usd, mean_latency_ms, days, *sums = row[3:]
    measures = zip((*_COUNTS, *_FIELDS), (np.frombuffer(numbers, ">f8") for numbers in sums), strict=True)
    return ArmHistory(
        Extractor(vendor, model), mean_cost_usd, mean_latency_ms, np.frombuffer(days, ">i4"), dict(measures)
    )
