"""What has been told of the newest days: by which history each verdict was made, and verdicts that are taken back.

Belongs here: `ml.drift_forecasts` read and withdrawn by template and day. Does not belong here: writing forecasts
(`stored`), which days are judged anew (`forecasting`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

import numpy as np

from assets.forecasts.fingerprints import Hashes
from assets.forecasts.history import Subject
from assets.forecasts.panel import Bools, Measure
from storage.database import Connection

# No history has a fingerprint of 0 but by chance: should the day come back, it is judged again.
_WITHDRAWN = 0
# Of a day that has passed without a score there is no verdict.
_TOLD = """
select
    tenant_id,
    template_id,
    string_agg(int4send(date - %(first_day)s), '') as days,
    string_agg(int8send(case when actual is null and date < %(today)s then 0 else history_hash end), '') as hashes
from ml.drift_forecasts
where measure = %(measure)s and date >= %(first_day)s
group by tenant_id, template_id
"""
_WITHDRAW = """
update ml.drift_forecasts as stored
set actual = null, p_value = null, is_anomaly = false, evaluation_count = 0, history_hash = 0, computed_at = now()
from unnest(%(tenant_ids)s::text[], %(template_ids)s::uuid[], %(days)s::integer[]) as lost (tenant_id, template_id, day)
where
    stored.tenant_id = lost.tenant_id
    and stored.template_id = lost.template_id
    and stored.measure = %(measure)s
    and stored.date = %(first_day)s::date + lost.day
"""


@dataclass(frozen=True)
class Told:
    """Verdicts on the days from `first_day` on, and what was ahead then.

    Attributes:
        hashes: (n, days) fingerprints that they were made by; 0 where there is none.
        orphans: judged days of templates that have no history any longer: tenant, identifier, day's number.
    """

    first_day: date
    hashes: Hashes
    orphans: tuple[tuple[str, UUID, int], ...]


def read_told(
    connection: Connection, subjects: Sequence[Subject], measure: Measure, today: date, newest: int, ahead: int
) -> Told:
    """What is stored of the `newest` days before today and of `ahead` days from today on."""
    places = {subject[:2]: place for place, subject in enumerate(subjects)}
    first_day = today - timedelta(days=newest)
    hashes = np.zeros((len(subjects), newest + ahead), dtype=np.int64)
    orphans: list[tuple[str, UUID, int]] = []
    values = {"measure": measure, "first_day": first_day, "today": today}
    for tenant_id, template_id, at, numbers in connection.execute(_TOLD, values, binary=True):
        days, found = np.frombuffer(at, ">i4"), np.frombuffer(numbers, ">i8")
        if (place := places.get((tenant_id, template_id))) is None:
            judged = days[(days < newest) & (found != _WITHDRAWN)]
            orphans += [(tenant_id, template_id, day) for day in judged.tolist()]
            continue
        within = days < newest + ahead
        hashes[place, days[within]] = found[within]
    return Told(first_day, hashes, tuple(orphans))


def withdraw(connection: Connection, measure: Measure, subjects: Sequence[Subject], told: Told, scored: Bools) -> int:
    """Take back verdicts on days that have no score any longer, records of them having been corrected; how many.

    Args:
        connection: its transaction is the caller's.
        measure: of the verdicts.
        subjects: of the rows.
        told: what is stored.
        scored: (n, newest) whether the days before today have a score.
    """
    rows, days = np.nonzero((told.hashes[:, : scored.shape[1]] != _WITHDRAWN) & ~scored)
    lost = [(*subjects[row][:2], day) for row, day in zip(rows.tolist(), days.tolist(), strict=True)]
    if not (lost := [*lost, *told.orphans]):
        return 0
    names = ("tenant_ids", "template_ids", "days")
    columns = {name: list(column) for name, column in zip(names, zip(*lost, strict=True), strict=True)}
    return connection.execute(_WITHDRAW, {**columns, "measure": measure, "first_day": told.first_day}).rowcount
