"""A run of forecasts for one measure: read, judge what is new or has changed, store, all in the caller's transaction.

What has been judged stands as long as the template's own days up to it are the same (`fingerprints`). So a run judges
the newest day of all templates, what late data has changed of a few, and nothing at all where nothing has happened.

Belongs here: which days are to be judged, and the order of reading and writing. Does not belong here: judging
(`judging`), SQL (`reading`, `stored`, `registry`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from assets.forecasts import stored
from assets.forecasts.crossing import HORIZON
from assets.forecasts.fingerprints import Hashes, history_hashes, joined, text_number
from assets.forecasts.judging import JUDGED_DAYS, METHODS, MIN_DAYS, Calibration, Verdicts, judge
from assets.forecasts.panel import Bools, Floats, Measure, Panel
from assets.forecasts.reading import INACTIVE_AFTER, Histories, read_budgets, read_events, read_thresholds
from assets.forecasts.registry import RECIPE, crown, read_without_prophet, register
from assets.forecasts.replay import BLOCK, REPLAYED_DAYS, Lessons, Memory, block_of
from assets.forecasts.rows import Decided, ahead_rows, fits_of, joined_rows, judged_rows, learnt_parameters
from storage.database import Connection

_FOLLOWED = REPLAYED_DAYS + BLOCK


@dataclass(frozen=True)
class Outcome:
    """What a run did for one measure, in numbers."""

    templates: int = 0
    templates_inactive: int = 0
    templates_judged_anew: int = 0
    days_judged: int = 0
    rows_changed: int = 0
    models_registered: int = 0
    promotions: int = 0


@dataclass(frozen=True)
class Standing:
    """What is known of a measure before a run: its templates' days, what was decided, learnt and remembered."""

    panel: Panel
    decided: Decided
    calibrations: Mapping[date, Calibration]
    lessons: Mapping[int, Lessons]
    memory: Memory


@dataclass(frozen=True)
class _Part:
    """One call of `judge`: of which templates, on which days."""

    rows: Bools
    judged: Bools
    looks_ahead: bool = True


def forecast(connection: Connection, histories: Histories, measure: Measure, today: date) -> Outcome:
    """Bring a measure's forecasts up to date.

    Args:
        connection: in a transaction that holds `stored.one_writer`.
        histories: of all templates, up to yesterday.
        measure: which of the two.
        today: the current UTC date.
    """
    scored = ~np.isnan(histories.values[measure])
    inactive = int((scored.any(axis=1) & ~_active(scored)).sum())
    withdrawn = stored.withdraw_verdicts(connection, measure, today)
    standing = read_standing(connection, histories, measure, today)
    if standing is None:
        return Outcome(templates_inactive=inactive, rows_changed=withdrawn)
    panel, decided, memory = standing.panel, standing.decided, standing.memory
    calibrations = dict(standing.calibrations)
    stale, stale_ahead = _stale(connection, panel, decided, today)
    parts = _parts(panel, stale, stale_ahead, calibrations, memory, today)
    parts_rows, verdicts_of = [], []
    for part in parts:
        of_part, decided_part = panel.of(part.rows), decided.of(part.rows)
        verdicts = judge(
            of_part,
            memory.of(part.rows),
            decided_part.budgets,
            decided_part.thresholds_when_high_is_bad,
            part.judged,
            calibrations,
            decided_part.without_prophet,
            standing.lessons,
        )
        calibrations |= verdicts.calibrations
        places = np.flatnonzero(part.rows)
        if part.judged.any():
            parts_rows.append(judged_rows(of_part, verdicts, decided_part, places))
        if part.looks_ahead:
            parts_rows.append(ahead_rows(of_part, verdicts, decided_part, places, today))
            stored.write_memory(connection, measure, of_part, verdicts.memory, decided_part.memory_hashes[:, -1])
        verdicts_of.append((places, verdicts))
    if not parts:
        return Outcome(templates=len(panel.subjects), templates_inactive=inactive, rows_changed=withdrawn)
    new_days = calibrations.keys() - standing.calibrations.keys()
    stored.write_calibrations(connection, measure, {day: calibrations[day] for day in new_days})
    rows = joined_rows(parts_rows)
    new = promoted = 0
    if len(rows.place):
        fits, which = fits_of(panel, rows, decided.hashes)
        if len(fits.place):
            ids, versions, new = register(
                connection, measure, panel.subjects, METHODS, fits, _parameters(panel, verdicts_of)
            )
            rows = rows.with_models(which, ids, versions)
            promoted = _crown(connection, measure, panel, rows, today)
    changed = stored.write_forecasts(connection, measure, panel.subjects, METHODS, rows)
    return Outcome(
        templates=len(panel.subjects),
        templates_inactive=inactive,
        templates_judged_anew=int(np.any([part.rows for part in parts], axis=0).sum()),
        days_judged=int((~np.isnan(rows.actual)).sum()),
        rows_changed=withdrawn + changed,
        models_registered=new,
        promotions=promoted,
    )


def read_standing(connection: Connection, histories: Histories, measure: Measure, today: date) -> Standing | None:
    """Read what a run goes by; None where no template is active.

    Args:
        connection: any.
        histories: of all templates or of some, up to yesterday.
        measure: which of the two.
        today: the current UTC date.
    """
    active = _active(~np.isnan(histories.values[measure]))
    if not active.any():
        return None
    panel = histories.panel(measure, read_events(connection, histories, measure), active)
    hashes = history_hashes(panel, _FOLLOWED)
    thresholds = read_thresholds(connection, panel.subjects, measure)
    budgets = read_budgets(connection, panel.subjects)
    without_prophet = read_without_prophet(connection, measure, panel.subjects)
    ahead_hashes = _ahead_hashes(panel, hashes, thresholds, budgets, without_prophet.astype(np.float64))
    decided = Decided(measure, thresholds, budgets, without_prophet, hashes, ahead_hashes)
    return Standing(
        panel,
        decided,
        stored.read_calibrations(connection, measure, today),
        stored.read_lessons(connection, measure, block_of(today)),
        stored.read_memory(connection, measure, panel, decided.memory_hashes),
    )


def _active(scored: Bools) -> Bools:
    active: Bools = np.any(scored[:, -INACTIVE_AFTER.days :], axis=1)
    return active


def _ahead_hashes(panel: Panel, hashes: Hashes, *decided: Floats) -> Hashes:
    """(n) what forecasts of coming days depend on: also on what people have set, and on known changes."""
    days = np.arange(1.0, panel.events.shape[1] + 1.0)
    changes = (panel.events * (panel.first_day.toordinal() + days)).sum(axis=1)
    recipe = np.full(len(hashes), text_number(RECIPE))
    return joined(hashes[:, -1], *decided, changes, recipe)


def _stale(connection: Connection, panel: Panel, decided: Decided, today: date) -> tuple[Bools, Bools]:
    """(n, T) days to be judged, and (n) whose coming days are to be forecast."""
    n, columns = panel.values.shape
    newest = min(JUDGED_DAYS, columns)
    first_day = today - timedelta(days=newest)
    found, known = stored.read_hashes(connection, panel.subjects, decided.measure, first_day, newest + HORIZON)
    stale = np.zeros((n, columns), dtype=np.bool_)
    recent = slice(columns - newest, columns)
    same = known[:, :newest] & (found[:, :newest] == decided.hashes[:, recent])
    scored = ~np.isnan(panel.values)
    ages = scored.cumsum(axis=1)
    stale[:, recent] = ~same & scored[:, recent] & (ages[:, recent] > MIN_DAYS)
    ahead = known[:, newest:] & (found[:, newest:] == decided.ahead_hashes[:, None])
    return stale, ~ahead.all(axis=1) & (ages[:, -1] >= MIN_DAYS)


def _parts(
    panel: Panel,
    stale: Bools,
    stale_ahead: Bools,
    calibrations: Mapping[date, Calibration],
    memory: Memory,
    today: date,
) -> list[_Part]:
    """What to judge together: the fleet, and apart from it those of which nothing is remembered.

    Their days, as far as the fleet's calibrations are known, may lie in an older block, which the whole fleet would
    have to replay.
    """
    rows: Bools = np.any(stale, axis=1) | stale_ahead
    if not rows.any():
        return []
    days = [panel.first_day + timedelta(days=column) for column in range(stale.shape[1])]
    new = np.array([day not in calibrations for day in days], dtype=np.bool_)
    if today in calibrations and not (stale & new).any():
        return [_Part(rows, stale[rows])]
    of_fleet = stale & (new | (memory.days > 0)[:, None])
    of_late = stale & ~of_fleet
    late: Bools = np.any(of_late, axis=1)
    fleet = _Part(np.ones(len(rows), dtype=np.bool_), of_fleet)
    # What is ahead of all templates is the fleet's part to say: each day is written once.
    return [fleet, _Part(late, of_late[late], looks_ahead=False)] if late.any() else [fleet]


def _parameters(panel: Panel, verdicts_of: list[tuple[np.ndarray, Verdicts]]) -> Floats:
    parameters = None
    for places, verdicts in verdicts_of:
        learnt = learnt_parameters(verdicts)
        if parameters is None:
            parameters = np.full((len(panel.subjects), learnt.shape[1]), np.nan)
        parameters[places] = learnt
    assert parameters is not None  # noqa: S101 - there is at least one part
    return parameters


def _crown(connection: Connection, measure: Measure, panel: Panel, rows: stored.Rows, today: date) -> int:
    first = (rows.day == (today - stored.EPOCH).days) & (rows.model_version > 0)
    subjects = [panel.subjects[place] for place in rows.place[first]]
    return crown(connection, measure, subjects, rows.model_id[first])
