"""What other choices would have been worth, as rows: sums of the daily mart, and the estimates.

Belongs here: SQL that reads, the step to rows. Does not belong here: the estimators (`policy_value`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

import numpy as np
from psycopg import sql
from psycopg.rows import dict_row

from assets.selection.policies import Extractor, Objective
from assets.selection.policy_value import (
    Estimate,
    Floats,
    Impossible,
    LoggedSums,
    PolicyValueError,
    PolicyValues,
    policy_values,
)
from assets.selection.refusals import Refused
from assets.selection.snapshots import TemplatePosteriors
from storage.database import Connection

# What another extractor would have done is asked of the time that is like today.
WINDOW = timedelta(days=90)
ESTIMATORS = ("ips", "snips", "dr")

_MEASURES = tuple(field.name for field in fields(LoggedSums))
# One objective's, under the names that the estimators know.
_SUMS = sql.SQL("""
with newest as (
    select max(date) as date from marts.extractor_performance_daily where tenant_id = %(tenant_id)s
)

select days.template_id, days.extractor_vendor, days.extractor_model, {measures}
from marts.extractor_performance_daily as days
cross join newest
where days.tenant_id = %(tenant_id)s and days.date > newest.date - %(days)s::integer
group by days.template_id, days.extractor_vendor, days.extractor_model
""")


class ArmValue(NamedTuple):
    """One estimator's answer for one extractor on one template: a row of ml.policy_value."""

    tenant_id: str
    template_id: UUID
    template: str
    extractor_vendor: str
    extractor_model: str
    objective: Objective
    estimator: str
    estimate: float | None
    lower: float | None
    upper: float | None
    on_policy_value: float | None
    gain: float | None
    gain_lower: float | None
    gain_upper: float | None
    logged_count: int
    effective_sample_size: float | None
    largest_weight: float | None
    refusal: str | None


@dataclass(frozen=True)
class _Logged:
    known: TemplatePosteriors
    sums: dict[Extractor, dict[str, float]]


def estimate_values(
    connection: Connection, templates: Sequence[TemplatePosteriors]
) -> tuple[list[ArmValue], list[Refused]]:
    """What each extractor of each template would have been worth, had it been used always in the last 90 days.

    Args:
        connection: reads marts.extractor_performance_daily.
        templates: what is known: it says which objective counts, and its means are the doubly robust estimate's model.

    Returns:
        The estimates, and the templates that have none because their sums are impossible.
    """
    found: list[ArmValue] = []
    refused: list[Refused] = []
    ordered = sorted(templates, key=_whose)
    for (tenant_id, objective), of_tenant in groupby(ordered, key=_whose):
        sums = _sums(connection, tenant_id, objective)
        logged = [_Logged(known, sums.get(known.template_id, {})) for known in of_tenant]
        try:
            found += _values(logged)
        except PolicyValueError as error:
            if not error.impossible:
                raise
            refused += [_refused(logged[each.template].known, each) for each in error.impossible]
            rows = {each.template for each in error.impossible}
            found += _values([each for row, each in enumerate(logged) if row not in rows])
    return found, refused


def _refused(known: TemplatePosteriors, found: Impossible) -> Refused:
    extractor = known.arms[found.arm].extractor
    about = known.tenant_id, known.template_id, known.template
    return Refused(*about, extractor, None, found.field, found.value, found.why)


def _whose(known: TemplatePosteriors) -> tuple[str, Objective]:
    return known.tenant_id, known.objective


def _sums(
    connection: Connection, tenant_id: str, objective: Objective
) -> dict[UUID, dict[Extractor, dict[str, float]]]:
    statement = _SUMS.format(measures=sql.SQL(", ").join(_measure(name, objective) for name in _MEASURES))
    found: dict[UUID, dict[Extractor, dict[str, float]]] = {}
    with connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(statement, {"tenant_id": tenant_id, "days": WINDOW.days}):
            arm = Extractor(row["extractor_vendor"], row["extractor_model"])
            found.setdefault(row["template_id"], {})[arm] = row
    return found


def _measure(name: str, objective: Objective) -> sql.Composed:
    added = sql.SQL("max({})" if name == "weight_max" else "sum({})").format(sql.Identifier(f"{objective}_{name}"))
    return sql.SQL("{}::double precision as {}").format(added, sql.Identifier(name))


def _values(logged: Sequence[_Logged]) -> list[ArmValue]:
    if not logged:
        return []
    shape = len(logged), max(len(each.known.arms) for each in logged)
    arrays = {name: np.zeros(shape) for name in _MEASURES}
    direct, mask = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    for row, each in enumerate(logged):
        for column, arm in enumerate(each.known.arms):
            mask[row, column], direct[row, column] = True, arm.mean
            sums = each.sums.get(arm.extractor, {})
            for name, values in arrays.items():
                values[row, column] = sums.get(name) or 0.0
    found = policy_values(LoggedSums(**arrays), direct, mask)
    return [
        value
        for row, each in enumerate(logged)
        for column in range(len(each.known.arms))
        for value in _of_arm(each.known, found, arrays["logged_count"], (row, column))
    ]


def _of_arm(known: TemplatePosteriors, found: PolicyValues, logged: Floats, at: tuple[int, int]) -> Iterator[ArmValue]:
    extractor = known.arms[at[1]].extractor
    for name in ESTIMATORS:
        answer: Estimate = getattr(found, name)
        yield ArmValue(
            tenant_id=known.tenant_id,
            template_id=known.template_id,
            template=known.template,
            extractor_vendor=extractor.vendor,
            extractor_model=extractor.model,
            objective=known.objective,
            estimator=name,
            estimate=_shown(answer.value[at]),
            lower=_shown(answer.lower[at]),
            upper=_shown(answer.upper[at]),
            on_policy_value=_shown(found.on_policy[at]),
            gain=_shown(answer.gain[at]),
            gain_lower=_shown(answer.gain_lower[at]),
            gain_upper=_shown(answer.gain_upper[at]),
            logged_count=int(logged[at]),
            effective_sample_size=_shown(found.effective_sample_size[at]),
            largest_weight=_shown(found.largest_weight[at]) if logged[at] else None,
            refusal=found.reason(*at),
        )


def _shown(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
