"""A run of forecasts for one measure: see what is new or has changed, judge it, store it, in one transaction.

What has been judged stands as long as the template's own days up to it are the same (`fingerprints`). So a run judges
the newest day of all templates, what late data has changed of a few, and nothing at all where nothing has happened.

Belongs here: which days are to be judged, and the order of reading and writing. Does not belong here: judging
(`judging`), SQL (`reading`, `told`, `stored`, `registry`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np

from assets.forecasts import stored, told, versions
from assets.forecasts.binary_rows import EPOCH
from assets.forecasts.crossing import HORIZON
from assets.forecasts.fingerprints import Hashes, history_hashes, joined, text_number
from assets.forecasts.judging import JUDGED_DAYS, MIN_DAYS, Calibration, Verdicts, judge
from assets.forecasts.methods import METHODS
from assets.forecasts.panel import Bools, Floats, Measure, Panel
from assets.forecasts.reading import INACTIVE_AFTER, Histories, read_budgets, read_events, read_thresholds
from assets.forecasts.registry import RECIPE, crown, read_serving, register
from assets.forecasts.replay import Lessons, Memory, block_of
from assets.forecasts.rows import FOLLOWED, NO_FIT, PINNED, Decided, ahead_rows, fits_of, joined_rows, judged_rows
from assets.forecasts.serving import NEVER, Serving
from assets.forecasts.versions import Versions
from storage.database import Connection


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


@dataclass(frozen=True)
class Work:
    """What a run has to do for a measure, with all that it takes: no more reading is needed.

    Attributes:
        standing: None where no template is active; then there are no parts.
        withdrawn: verdicts that were taken back.
        looked_back: (n,) false of templates of whose days, older than the newest, some have changed or come late.
    """

    measure: Measure
    today: date
    templates_inactive: int
    withdrawn: int
    standing: Standing | None = None
    parts: Sequence[_Part] = ()
    looked_back: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))


def prepare(connection: Connection, histories: Histories, measure: Measure, today: date) -> Work:
    """See what is new or has changed, and take back verdicts on what is there no more.

    Args:
        connection: in a transaction that holds `stored.one_writer`.
        histories: of all templates, up to yesterday.
        measure: which of the two.
        today: the current UTC date.
    """
    scored = ~np.isnan(histories.values[measure])
    active = _active(scored)
    known = told.read_told(connection, histories.subjects, measure, today, JUDGED_DAYS, HORIZON)
    # History may have become shorter than what has been told of it.
    before = max(JUDGED_DAYS - histories.days, 0)
    newest_scored = np.pad(scored[:, -JUDGED_DAYS:], ((0, 0), (before, 0)))
    withdrawn = told.withdraw(connection, measure, histories.subjects, known, newest_scored)
    work = Work(measure, today, int((scored.any(axis=1) & ~active).sum()), withdrawn)
    if (standing := read_standing(connection, histories, measure, today)) is None:
        return work
    stale, stale_ahead = _stale(standing.panel, standing.decided, known.hashes[active, before:])
    parts = _parts(standing.panel, stale, stale_ahead, standing.calibrations, standing.memory, today)
    # A fingerprint is of all days up to one: where that of the oldest of the newest days holds, so do those before it.
    newest = ~np.isnan(standing.panel.values[:, -JUDGED_DAYS:])
    oldest = newest & (newest.cumsum(axis=1) == 1)
    looked_back = ~(oldest & stale[:, -JUDGED_DAYS:]).any(axis=1)
    return replace(work, standing=standing, parts=parts, looked_back=looked_back)


def judge_work(work: Work) -> Sequence[Verdicts]:
    """The verdicts of each part; reads and writes nothing."""
    verdicts_of: list[Verdicts] = []
    if work.standing is None:
        return verdicts_of
    standing, calibrations = work.standing, dict(work.standing.calibrations)
    for part in work.parts:
        decided = standing.decided.of(part.rows)
        verdicts = judge(
            standing.panel.of(part.rows),
            standing.memory.of(part.rows),
            decided.budgets,
            decided.thresholds_when_high_is_bad,
            part.judged,
            calibrations,
            decided.serving,
            standing.lessons,
        )
        calibrations |= verdicts.calibrations
        verdicts_of.append(verdicts)
    return verdicts_of


def store(connection: Connection, work: Work, verdicts_of: Sequence[Verdicts]) -> Outcome:
    """Store a measure's verdicts and all that they teach, and register what was fitted.

    Args:
        connection: the transaction in which the work was prepared.
        work: from `prepare`.
        verdicts_of: from `judge_work`.
    """
    outcome = Outcome(templates_inactive=work.templates_inactive, rows_changed=work.withdrawn)
    if (standing := work.standing) is None:
        return outcome
    panel, decided, measure, today = standing.panel, standing.decided, work.measure, work.today
    outcome = replace(outcome, templates=len(panel.subjects))
    if not work.parts:
        return outcome
    parts_rows, calibrations = [], dict[date, Calibration]()
    for part, verdicts in zip(work.parts, verdicts_of, strict=True):
        of_part, decided_part, places = panel.of(part.rows), decided.of(part.rows), np.flatnonzero(part.rows)
        calibrations |= verdicts.calibrations
        if part.judged.any():
            parts_rows.append(judged_rows(of_part, verdicts, decided_part, places))
        if part.looks_ahead:
            parts_rows.append(ahead_rows(of_part, verdicts, decided_part, places, today))
            stored.write_memory(
                connection, measure, of_part, verdicts.memory, decided_part.memory_hashes(of_part)[:, -1]
            )
    new_days = calibrations.keys() - standing.calibrations.keys()
    stored.write_calibrations(connection, measure, {day: calibrations[day] for day in new_days})
    rows = joined_rows(parts_rows)
    new = promoted = 0
    if len(rows.place):
        fits, which = fits_of(panel, rows, decided)
        pinned, serving = which == PINNED, decided.serving
        rows = rows.with_models(np.where(pinned, rows.place, NO_FIT), serving.model_ids, serving.model_versions)
        if len(fits.place):
            learnt = _learnt(panel, work.parts, verdicts_of)
            ids, numbers, new = register(connection, measure, panel.subjects, METHODS, fits, learnt)
            rows = rows.with_models(which, ids, numbers)
        promoted = _crown(connection, measure, panel, rows, serving, today)
    changed = stored.write_forecasts(connection, measure, panel.subjects, METHODS, rows)
    return replace(
        outcome,
        templates_judged_anew=int(np.any([part.rows for part in work.parts], axis=0).sum()),
        days_judged=int((~np.isnan(rows.actual)).sum()),
        rows_changed=work.withdrawn + changed,
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
    hashes = history_hashes(panel, FOLLOWED)
    thresholds = read_thresholds(connection, panel.subjects, measure)
    budgets = read_budgets(connection, panel.subjects)
    serving = read_serving(connection, measure, panel.subjects)
    ahead_hashes = _ahead_hashes(panel, hashes, thresholds, budgets, serving.numbers.astype(np.float64))
    decided = Decided(measure, thresholds, budgets, serving, hashes, ahead_hashes)
    return Standing(
        panel,
        decided,
        stored.read_calibrations(connection, measure, today),
        stored.read_lessons(connection, measure, block_of(today)),
        stored.read_memory(connection, measure, panel, decided.memory_hashes(panel)),
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


def _stale(panel: Panel, decided: Decided, found: Hashes) -> tuple[Bools, Bools]:
    """(n, T) days to be judged, and (n) whose coming days are to be forecast; `found` are told."""
    n, columns = panel.values.shape
    newest = found.shape[1] - HORIZON
    stale = np.zeros((n, columns), dtype=np.bool_)
    recent = slice(columns - newest, columns)
    same = found[:, :newest] == decided.hashes[:, recent]
    scored = ~np.isnan(panel.values)
    ages = scored.cumsum(axis=1)
    stale[:, recent] = ~same & scored[:, recent] & (ages[:, recent] > MIN_DAYS)
    ahead = found[:, newest:] == decided.ahead_hashes[:, None]
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


def _learnt(panel: Panel, parts: Sequence[_Part], verdicts_of: Sequence[Verdicts]) -> Versions:
    """What this week's fits of all templates are made of; nothing of those that were not judged in this run."""
    learnt = versions.none(len(panel.subjects))
    for part, verdicts in zip(parts, verdicts_of, strict=True):
        learnt[part.rows] = verdicts.memory.fits
    return learnt


def _crown(
    connection: Connection, measure: Measure, panel: Panel, rows: stored.Rows, serving: Serving, today: date
) -> int:
    # The alias stays on a version that is held to, also where the recursion has to step in for it.
    free = serving.since[rows.place] == NEVER
    first = (rows.day == (today - EPOCH).days) & (rows.model_version > 0) & free
    subjects = [panel.subjects[place] for place in rows.place[first]]
    return crown(connection, measure, subjects, rows.model_id[first])
