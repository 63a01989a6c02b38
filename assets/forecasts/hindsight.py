"""Hindsight: days that had passed before anybody judged them, judged as they would have been.

Who lands a year of history wants to see the year's verdicts, not those of the last two weeks. Each day is judged from
the days before it alone, by priors and calibrations learnt from the days before it alone, of the templates that are
judged together. What has been told stands; no model is registered, since none served.

Belongs here: for whom that is due, and storing it. Does not belong here: judging (`judging`), the newest days
(`forecasting`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from assets.forecasts import stored
from assets.forecasts.forecasting import Standing, Work
from assets.forecasts.history import Subject
from assets.forecasts.judging import JUDGED_DAYS, MIN_DAYS, judge
from assets.forecasts.methods import METHODS
from assets.forecasts.panel import Bools, Panel
from assets.forecasts.reading import REACH
from assets.forecasts.rows import FOLLOWED, judged_rows
from assets.forecasts.served import Rows
from assets.forecasts.serving import Serving
from storage.database import Connection

_LOOKED_BACK = """
select tenant_id, template_id, looked_back_from, history_hash, looked_on
from ml.forecast_hindsight where measure = %(measure)s
"""
_JUDGED = """
select told.tenant_id, told.template_id, string_agg(int4send(told.date - %(first_day)s), '')
from unnest(%(tenant_ids)s::text[], %(template_ids)s::uuid[]) as due (tenant_id, template_id)
inner join ml.drift_forecasts as told using (tenant_id, template_id)
where
    told.measure = %(measure)s and told.date between %(first_day)s and %(looked_back_from)s and told.actual is not null
group by told.tenant_id, told.template_id
"""
_SPENT = """
select coalesce(sum(days), 0)::bigint from ml.forecast_hindsight where measure = %(measure)s and looked_on = %(today)s
"""
_WRITE = """
insert into ml.forecast_hindsight as known
    (tenant_id, template_id, measure, looked_back_from, history_hash, days, looked_on)
select tenant_id, template_id, %(measure)s, %(looked_back_from)s, history_hash, days, %(today)s
from unnest(%(tenant_ids)s::text[], %(template_ids)s::uuid[], %(hashes)s::bigint[], %(days)s::integer[])
    as looked (tenant_id, template_id, history_hash, days)
on conflict (tenant_id, template_id, measure) do update set
    looked_back_from = excluded.looked_back_from,
    history_hash = excluded.history_hash,
    days = excluded.days + case when known.looked_on = excluded.looked_on then known.days else 0 end,
    looked_on = excluded.looked_on,
    computed_at = now()
"""
# No history has such a fingerprint but by chance. The row stays: what was spent today is spent.
_FORGOTTEN = -1
_FORGET = """
update ml.forecast_hindsight as looked set history_hash = %(forgotten)s
from unnest(%(tenant_ids)s::text[], %(template_ids)s::uuid[]) as changed (tenant_id, template_id)
where
    looked.tenant_id = changed.tenant_id
    and looked.template_id = changed.template_id
    and looked.measure = %(measure)s
    and looked.history_hash <> %(forgotten)s
"""
_NOT_DUE = np.iinfo(np.int64).max


@dataclass(frozen=True)
class LookedBack:
    """What was judged in hindsight.

    Attributes:
        templates: of how many all older days have their verdict now.
        days: how many verdicts came of it.
        left: templates that wait for another run.
    """

    templates: int = 0
    days: int = 0
    left: int = 0


def look_back(connection: Connection, work: Work, days_at_most: int) -> LookedBack:
    """Judge the days before the newest JUDGED_DAYS of templates whose older days are new or have changed.

    Args:
        connection: in a transaction that holds `stored.one_writer`.
        work: of a measure, stored already.
        days_at_most: judged on a day, in however many runs, but at least one template: a large fleet's years take some
            nights. 0: none.
    """
    if (standing := work.standing) is None:
        return LookedBack()
    panel, decided = standing.panel, standing.decided
    changed = [panel.subjects[place] for place in np.flatnonzero(~work.looked_back)]
    # Whoever has no turn in this run is due in the next: by then what changed is told.
    connection.execute(_FORGET, {"measure": decided.measure, "forgotten": _FORGOTTEN, **_names(changed)})
    end = panel.values.shape[1] - JUDGED_DAYS
    if end <= 0 or not days_at_most:
        return LookedBack()
    values: dict[str, object] = {
        "measure": decided.measure,
        "first_day": panel.first_day,
        "looked_back_from": panel.first_day + timedelta(days=end - 1),
        "today": work.today,
    }
    if not len(due := _due(connection, standing)):
        return LookedBack()
    scored = ~np.isnan(panel.values)
    unjudged = scored & (scored.cumsum(axis=1) > MIN_DAYS)
    unjudged[:, end:] = False
    unjudged[due] &= ~_judged(connection, panel, due, values)
    row = connection.execute(_SPENT, values).fetchone()
    spent = row[0] if row else 0
    days = unjudged[due].sum(axis=1)
    taken = due[(spent + days.cumsum() <= days_at_most) | ((np.arange(len(due)) == 0) & (spent == 0))]
    if not len(taken):
        return LookedBack(left=len(due))
    chosen = np.zeros(len(panel.subjects), dtype=np.bool_)
    chosen[taken] = True
    of_chosen, decided_chosen = panel.of(chosen), decided.of(chosen)
    count = 0
    if unjudged[chosen].any():
        # What somebody holds to now did not serve then.
        serving = Serving.by(decided_chosen.serving.methods)
        verdicts = judge(of_chosen, None, decided_chosen.budgets, judged=unjudged[chosen], serving=serving)
        rows = judged_rows(of_chosen, verdicts, decided_chosen, np.arange(len(taken)))
        count = stored.add_forecasts(connection, decided.measure, of_chosen.subjects, METHODS, rows)
    lists = {
        "hashes": decided_chosen.hashes[:, end - 1].tolist(),
        "days": unjudged[chosen].sum(axis=1).tolist(),
    }
    connection.execute(_WRITE, {**values, **_names(of_chosen.subjects), **lists})
    return LookedBack(len(taken), count, len(due) - len(taken))


def _names(subjects: Sequence[Subject]) -> dict[str, list[object]]:
    return {f"{name}s": [getattr(subject, name) for subject in subjects] for name in ("tenant_id", "template_id")}


def _due(connection: Connection, standing: Standing) -> Rows:
    """Templates of whom nobody has looked back on the days as they are now, the longest waiting first."""
    panel, hashes = standing.panel, standing.decided.hashes
    # Of a fingerprint's days the first may be read no more. Then `Work.looked_back` alone tells what has changed.
    whole_from = FOLLOWED - 1 if panel.values.shape[1] == REACH.days else 0
    places = {subject[:2]: place for place, subject in enumerate(panel.subjects)}
    waiting_since = np.zeros(len(panel.subjects), dtype=np.int64)
    found = connection.execute(_LOOKED_BACK, {"measure": standing.decided.measure})
    for tenant_id, template_id, day, known, looked_on in found:
        column = (day - panel.first_day).days
        if (place := places.get((tenant_id, template_id))) is not None:
            is_due = known == _FORGOTTEN or (column >= whole_from and hashes[place, column] != known)
            waiting_since[place] = looked_on.toordinal() if is_due else _NOT_DUE
    order: Rows = np.argsort(waiting_since, kind="stable")
    return order[waiting_since[order] < _NOT_DUE]


def _judged(connection: Connection, panel: Panel, due: Rows, values: Mapping[str, object]) -> Bools:
    """(len(due), T) days of these templates that have a verdict, which stands."""
    subjects = [panel.subjects[place] for place in due]
    places = {subject[:2]: place for place, subject in enumerate(subjects)}
    judged = np.zeros((len(due), panel.values.shape[1]), dtype=np.bool_)
    for tenant_id, template_id, days in connection.execute(_JUDGED, {**values, **_names(subjects)}, binary=True):
        judged[places[tenant_id, template_id], np.frombuffer(days, ">i4")] = True
    return judged
