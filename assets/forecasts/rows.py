"""From verdicts to rows: reliability turned back, what each day was forecast from, and by which fit.

Belongs here: arrays to the columns of `stored.Rows`, pure. Does not belong here: writing them (`stored`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from assets.forecasts.binary_rows import EPOCH
from assets.forecasts.fingerprints import Hashes, with_events
from assets.forecasts.judging import Verdicts
from assets.forecasts.panel import Bools, Floats, Measure, Panel
from assets.forecasts.registry import Fits
from assets.forecasts.replay import BLOCK, REPLAYED_DAYS, block_of, start_of
from assets.forecasts.serving import Serving
from assets.forecasts.stored import Rows

# Fingerprints are of so many days.
FOLLOWED = REPLAYED_DAYS + BLOCK
NO_FIT, PINNED = -1, -2
_NO_MODEL = np.zeros(1, dtype="V16")


@dataclass(frozen=True)
class Decided:
    """What verdicts on a panel rest on beside its days, a row a template.

    Attributes:
        thresholds: in units of the score.
        budgets: weeks for one false alarm.
        serving: who is to forecast each.
        hashes: (n, T) of histories up to each day; `ahead_hashes` (n) of all that coming days are forecast from.
    """

    measure: Measure
    thresholds: Floats
    budgets: Floats
    serving: Serving
    hashes: Hashes
    ahead_hashes: Hashes

    def of(self, rows: Bools) -> "Decided":
        """That of the chosen templates."""
        return Decided(
            self.measure,
            self.thresholds[rows],
            self.budgets[rows],
            self.serving.of(rows),
            self.hashes[rows],
            self.ahead_hashes[rows],
        )

    def memory_hashes(self, panel: Panel) -> Hashes:
        """(n, T) of what is remembered after each day.

        Another champion remembers otherwise, and so does who is told of a change when it has been for days.
        """
        return with_events(self.hashes, panel, FOLLOWED) + self.serving.numbers[:, None]

    @property
    def thresholds_when_high_is_bad(self) -> Floats:
        """The thresholds as a panel's values are."""
        return 1.0 - self.thresholds if self.measure == "reliability" else self.thresholds


def judged_rows(panel: Panel, verdicts: Verdicts, decided: Decided, places: npt.NDArray[np.intp]) -> Rows:
    """The days that have a verdict.

    Args:
        panel: what was judged.
        verdicts: on it.
        decided: what they rest on.
        places: which of all subjects the panel's are.
    """
    parts = []
    for at, day in enumerate(verdicts.days):
        column = (day - panel.first_day).days
        chosen = np.flatnonzero(~np.isnan(verdicts.yhat[:, at]) & ~np.isnan(panel.values[:, column]))
        parts.append(
            _rows(
                panel,
                decided,
                places,
                chosen,
                day,
                method=verdicts.method[chosen, at],
                band=(verdicts.yhat[chosen, at], verdicts.lower[chosen, at], verdicts.upper[chosen, at]),
                actual=panel.values[chosen, column],
                counts=panel.counts[chosen, column],
                p_value=verdicts.p_value[chosen, at],
                hashes=decided.hashes[chosen, column],
            )
        )
    return joined_rows(parts)


def ahead_rows(panel: Panel, verdicts: Verdicts, decided: Decided, places: npt.NDArray[np.intp], today: date) -> Rows:
    """The coming days; arguments as of `judged_rows`."""
    parts = []
    chosen = np.flatnonzero(~np.isnan(verdicts.ahead_yhat[:, 0]))
    none = np.full(len(chosen), np.nan)
    for step in range(verdicts.ahead_yhat.shape[1]):
        parts.append(
            _rows(
                panel,
                decided,
                places,
                chosen,
                today + timedelta(days=step),
                method=verdicts.ahead_method[chosen],
                band=(
                    verdicts.ahead_yhat[chosen, step],
                    verdicts.ahead_lower[chosen, step],
                    verdicts.ahead_upper[chosen, step],
                ),
                actual=none,
                counts=np.zeros(len(chosen)),
                p_value=none,
                hashes=decided.ahead_hashes[chosen],
                p_crossing=verdicts.p_crossing[chosen, step],
            )
        )
    return joined_rows(parts)


def joined_rows(parts: Sequence[Rows]) -> Rows:
    """All rows of some parts."""
    return Rows(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Rows)))


def fits_of(panel: Panel, rows: Rows, decided: Decided) -> tuple[Fits, npt.NDArray[np.intp]]:
    """The fits that rows were forecast by: of each template, method and week, on the days before its Monday.

    Returns:
        The fits, and of each row which one it is: NO_FIT where there were no days before that Monday, PINNED where the
        version that is held to forecast it.
    """
    day_zero = panel.first_day.toordinal() - EPOCH.toordinal()
    # What is ahead is forecast by this week's fit, into the next week too.
    day = np.minimum(rows.day, day_zero + panel.values.shape[1])
    columns = day - (day + EPOCH.weekday()) % 7 - day_zero
    end = panel.values.shape[1]
    newest = end - (panel.first_day + timedelta(days=end)).weekday()
    known = np.zeros((4, len(columns)), dtype=np.int64)
    for column in np.unique(columns):
        of_week = columns == column
        known[:, of_week] = np.stack(_scored_before(panel, int(column)))[:, rows.place[of_week]]
    serving = decided.serving
    pinned = (serving.since[rows.place] <= columns + panel.first_day.toordinal()) & (
        rows.method == serving.methods[rows.place]
    )
    usable = (known[0] > 0) & ~pinned
    # A week without a scored day brings no other fit.
    keys = np.stack([rows.place, rows.method, known[2]])[:, usable]
    _, chosen, numbers = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    which = np.where(pinned, PINNED, NO_FIT)
    which[usable] = numbers.ravel()
    place, (_, first, last, days) = rows.place[usable][chosen], known[:, usable][:, chosen]
    fits = Fits(
        place,
        rows.method[usable][chosen],
        (first + day_zero).astype(np.int32),
        (last + day_zero).astype(np.int32),
        days.astype(np.int32),
        decided.hashes[place, last],
        last == _scored_before(panel, newest)[2][place],
    )
    return fits, which


def _rows(
    panel: Panel,
    decided: Decided,
    places: npt.NDArray[np.intp],
    chosen: npt.NDArray[np.intp],
    day: date,
    *,
    method: npt.NDArray[np.int8],
    band: tuple[Floats, Floats, Floats],
    actual: Floats,
    counts: Floats,
    p_value: Floats,
    hashes: Hashes,
    p_crossing: Floats | None = None,
) -> Rows:
    yhat, lower, upper = band
    if decided.measure == "reliability":
        yhat, lower, upper, actual = 1.0 - yhat, 1.0 - upper, 1.0 - lower, 1.0 - actual
    with np.errstate(invalid="ignore"):
        beyond = actual < lower if decided.measure == "reliability" else actual > upper
    _, first, last, days = _scored_before(panel, min((day - panel.first_day).days, panel.values.shape[1]))
    day_zero = panel.first_day.toordinal() - EPOCH.toordinal()
    none = np.full(len(chosen), np.nan)
    return Rows(
        place=places[chosen].astype(np.int32),
        day=np.full(len(chosen), day.toordinal() - EPOCH.toordinal(), dtype=np.int32),
        method=method.astype(np.int32),
        yhat=yhat,
        yhat_lower=lower,
        yhat_upper=upper,
        actual=actual,
        evaluation_count=counts,
        p_value=p_value,
        is_anomaly=beyond,
        p_crossing=none if p_crossing is None else p_crossing,
        threshold=none if p_crossing is None else decided.thresholds[chosen],
        budget_weeks=decided.budgets[chosen],
        fitted_from=(first[chosen] + day_zero).astype(np.int32),
        fitted_to=(last[chosen] + day_zero).astype(np.int32),
        fitted_days=days[chosen].astype(np.int32),
        history_hash=hashes,
        model_id=np.repeat(_NO_MODEL, len(chosen)),
        model_version=np.zeros(len(chosen), dtype=np.int32),
    )


def _scored_before(panel: Panel, column: int) -> tuple[npt.NDArray[np.int64], ...]:
    """(n) each: whether any day before a column was scored, the first and the last of them, and how many."""
    n = len(panel.subjects)
    start = start_of(panel, block_of(panel.first_day + timedelta(days=column)))
    if column <= start:
        nothing = np.zeros(n, dtype=np.int64)
        return nothing, nothing, nothing, nothing
    scored = ~np.isnan(panel.values[:, start:column])
    days = scored.sum(axis=1)
    return (
        (days > 0).astype(np.int64),
        start + scored.argmax(axis=1),
        column - 1 - scored[:, ::-1].argmax(axis=1),
        days,
    )
