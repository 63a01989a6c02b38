"""What daily feedback there is: from marts.extractor_performance_daily to arrays, tenant by tenant.

Belongs here: SQL that reads, the step from rows to arrays. Does not belong here: what is learnt (`knowledge`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

import numpy as np

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
_DAYS = """
select
    tenant_id, template_id, template, extractor_vendor, extractor_model, date, evaluation_count, success_count,
    failure_count, document_count, fields_correct, fields_total, cost_count, latency_count, rate_sum, rate_sum_sq,
    cost_sum, latency_sum
from marts.extractor_performance_daily
where tenant_id = any(%(tenant_ids)s) and date > %(after)s and evaluation_count > 0
order by tenant_id, template_id, extractor_vendor collate "C", extractor_model collate "C", date
"""
_KEY = 5


class Day(NamedTuple):
    """A day's sums of one extractor on one template."""

    date: date
    evaluation_count: int
    success_count: int
    failure_count: int
    document_count: int
    fields_correct: int
    fields_total: int
    cost_count: int
    latency_count: int
    rate_sum: float
    rate_sum_sq: float
    cost_sum: float
    latency_sum: float


@dataclass(frozen=True)
class ArmHistory:
    """One extractor's days on one template, oldest first."""

    extractor: Extractor
    days: Sequence[Day]

    def total(self, name: str) -> float:
        """A measure's sum over all days."""
        return float(sum(getattr(day, name) for day in self.days))

    def mean(self, what: str) -> float | None:
        """The mean cost or latency of those evaluations that tell it; None if none does."""
        count = self.total(f"{what}_count")
        return self.total(f"{what}_sum") / count if count else None


@dataclass(frozen=True)
class TemplateHistory:
    """One template's extractors, in the order of their names by code points, and what is to be high there."""

    tenant_id: str
    template_id: UUID
    template: str
    objective: Objective
    arms: Sequence[ArmHistory]

    def feedback_count(self, arm: ArmHistory) -> int:
        """Evaluations of an arm with feedback on the objective."""
        names = ("document_count",) if self.objective == "fields" else ("success_count", "failure_count")
        return int(sum(arm.total(name) for name in names))


@dataclass(frozen=True)
class Group:
    """Tenants that learn together, mostly one alone, and their newest day of decisions."""

    templates: Sequence[TemplateHistory]
    today: date
    templates_without_feedback: int


def read_groups(connection: Connection, policies: Mapping[tuple[str, UUID], Policy]) -> Iterator[Group]:
    """The templates with feedback of all tenants; those that agreed to pool are one group.

    One group at a time is in memory.
    """
    alone: list[tuple[list[str], date]] = []
    pooled: list[tuple[str, date]] = []
    for tenant_id, pools, newest in connection.execute(_TENANTS).fetchall():
        if pools:
            pooled.append((tenant_id, newest))
        else:
            alone.append(([tenant_id], newest))
    if pooled:
        alone.append(([tenant_id for tenant_id, _ in pooled], max(newest for _, newest in pooled)))
    for tenant_ids, today in alone:
        rows = connection.execute(_DAYS, {"tenant_ids": tenant_ids, "after": today - WINDOW})
        found = list(_templates(rows, policies))
        told = [template for template in found if any(map(template.feedback_count, template.arms))]
        yield Group(told, today, len(found) - len(told))


def daily_sums(group: Group) -> DailySums:
    """A group's feedback as arrays; the last column is the group's newest day."""
    templates = group.templates
    first = min(arm.days[0].date for template in templates for arm in template.arms)
    shape = len(templates), max(len(template.arms) for template in templates), (group.today - first).days + 1
    names = (
        "success_count", "failure_count", "document_count", "rate_sum", "rate_sum_sq", "fields_correct", "fields_total",
    )  # fmt: skip
    sums: dict[str, Floats] = {name: np.zeros(shape) for name in names}
    mask = np.zeros(shape[:2], dtype=bool)
    for row, template in enumerate(templates):
        for column, arm in enumerate(template.arms):
            mask[row, column] = True
            days = [(day.date - first).days for day in arm.days]
            for name, values in sums.items():
                values[row, column, days] = [getattr(day, name) for day in arm.days]
    by_fields = np.array([template.objective == "fields" for template in templates])
    fields = FieldSums(**{name: sums[name] for name in names[2:]})
    return DailySums(mask, sums["success_count"], sums["failure_count"], by_fields, fields)


def _templates(
    rows: Iterable[tuple[object, ...]], policies: Mapping[tuple[str, UUID], Policy]
) -> Iterator[TemplateHistory]:
    for (tenant_id, template_id, template), of_template in groupby(rows, key=lambda row: row[:3]):
        arms = [
            ArmHistory(Extractor(str(vendor), str(model)), [Day(*row[_KEY:]) for row in of_arm])  # type: ignore[arg-type]
            for (vendor, model), of_arm in groupby(of_template, key=lambda row: row[3:_KEY])
        ]
        assert isinstance(tenant_id, str)  # noqa: S101 - as the mart's contract has it, and the next
        assert isinstance(template_id, UUID)  # noqa: S101
        policy = policies.get((tenant_id, template_id))
        objective = Policy.objective if policy is None else policy.objective
        yield TemplateHistory(tenant_id, template_id, str(template), objective, arms)
