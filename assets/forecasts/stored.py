"""What forecasts have written: calibrations and memory, read back; these and verdicts written where they differ.

Belongs here: SQL over `ml.drift_forecasts`, `ml.forecast_calibrations` and `ml.forecast_memory`. Does not belong here:
what is in them (`judging`), which verdicts there are (`told`), the registry of models (`registry`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt

from assets.forecasts.arrays import from_rows, layout_of, pack, row_bytes, row_layout, unpack
from assets.forecasts.binary_rows import copy_columns
from assets.forecasts.fingerprints import Hashes
from assets.forecasts.history import Subject
from assets.forecasts.judging import JUDGED_DAYS, Calibration
from assets.forecasts.panel import Bools, Floats, Measure, Panel
from assets.forecasts.registry import RECIPE
from assets.forecasts.replay import BLOCK, Lessons, Memory, block_of
from storage.database import Connection

Ints = npt.NDArray[np.int32]

_CALIBRATION_LAYOUT = f"{RECIPE}:{layout_of(Calibration)}"
_LESSONS_LAYOUT = f"{RECIPE}:{layout_of(Lessons)}"
# Whoever forecasts holds it from reading to writing: two at once would write over each other's verdicts.
_ONE_WRITER = "lock table ml.forecast_memory in share row exclusive mode"
_FRESH = """
create temporary table fresh_subjects (
    place integer primary key, tenant_id text not null, template_id uuid not null, template text not null
) on commit drop;
create temporary table fresh_forecasts (
    place integer not null, day date not null, method integer not null, yhat double precision not null,
    yhat_lower double precision not null, yhat_upper double precision not null, actual double precision not null,
    evaluation_count double precision not null, p_value double precision not null, is_anomaly boolean not null,
    p_crossing double precision not null, threshold double precision not null, budget_weeks double precision not null,
    fitted_from date not null, fitted_to date not null, fitted_days integer not null, history_hash bigint not null,
    model_id uuid not null, model_version integer not null
) on commit drop
"""
_COPY_SUBJECTS = "copy fresh_subjects (place, tenant_id, template_id, template) from stdin (format binary)"
_COPY_FORECASTS = "copy fresh_forecasts from stdin (format binary)"
_DROP_FRESH = "drop table fresh_forecasts, fresh_subjects"
_CALIBRATIONS = """
select date, content from ml.forecast_calibrations
where measure = %(measure)s and layout = %(layout)s and date >= %(since)s
"""
_WRITE_CALIBRATION = """
insert into ml.forecast_calibrations (measure, date, layout, content)
values (%(measure)s, %(date)s, %(layout)s, %(content)s)
on conflict (measure, date, layout) do nothing
"""
_LESSONS = """
select block, content from ml.forecast_lessons
where measure = %(measure)s and layout = %(layout)s and block = %(block)s
"""
_WRITE_LESSONS = """
insert into ml.forecast_lessons (measure, block, layout, content)
values (%(measure)s, %(block)s, %(layout)s, %(content)s)
on conflict (measure, block, layout) do nothing
"""
_MEMORY = """
select tenant_id, template_id, judged_to, history_hash, state from ml.forecast_memory
where measure = %(measure)s and layout = %(layout)s and block = %(block)s
"""
_FRESH_MEMORY = """
create temporary table fresh_memory (
    tenant_id text not null, template_id uuid not null, history_hash bigint not null, state bytea not null
) on commit drop
"""
_COPY_MEMORY = "copy fresh_memory from stdin (format binary)"
_WRITE_MEMORY = """
insert into ml.forecast_memory as stored
    (tenant_id, template_id, measure, layout, block, judged_to, history_hash, state)
select tenant_id, template_id, %(measure)s, %(layout)s, %(block)s, %(judged_to)s, history_hash, state
from fresh_memory
on conflict (tenant_id, template_id, measure) do update set
    layout = excluded.layout,
    block = excluded.block,
    judged_to = excluded.judged_to,
    history_hash = excluded.history_hash,
    state = excluded.state,
    computed_at = excluded.computed_at
where
    (stored.layout, stored.block, stored.judged_to, stored.history_hash)
    is distinct from (excluded.layout, excluded.block, excluded.judged_to, excluded.history_hash)
"""
_ADD = """
insert into ml.drift_forecasts as stored
    (tenant_id, template_id, template, measure, date, method, yhat, yhat_lower, yhat_upper, actual, evaluation_count,
     p_value, is_anomaly, p_crossing, threshold, budget_weeks, fitted_from, fitted_to, fitted_days, history_hash,
     model_id, model_version)
select
    subjects.tenant_id, subjects.template_id, subjects.template, %(measure)s, fresh.day,
    (%(methods)s::text [])[fresh.method + 1], fresh.yhat, fresh.yhat_lower, fresh.yhat_upper,
    nullif(fresh.actual, 'NaN'), fresh.evaluation_count::bigint, nullif(fresh.p_value, 'NaN'), fresh.is_anomaly,
    nullif(fresh.p_crossing, 'NaN'), nullif(fresh.threshold, 'NaN'), fresh.budget_weeks, fresh.fitted_from,
    fresh.fitted_to, fresh.fitted_days, fresh.history_hash,
    case when fresh.model_version > 0 then fresh.model_id end, nullif(fresh.model_version, 0)
from fresh_forecasts as fresh
inner join fresh_subjects as subjects using (place)
on conflict (tenant_id, template_id, measure, date) """
# Rows that say the same as before stay untouched: to run again changes nothing, computed_at included.
_WHAT_DIFFERS = """do update set
    template = excluded.template,
    method = excluded.method,
    yhat = excluded.yhat,
    yhat_lower = excluded.yhat_lower,
    yhat_upper = excluded.yhat_upper,
    actual = excluded.actual,
    evaluation_count = excluded.evaluation_count,
    p_value = excluded.p_value,
    is_anomaly = excluded.is_anomaly,
    p_crossing = excluded.p_crossing,
    threshold = excluded.threshold,
    budget_weeks = excluded.budget_weeks,
    fitted_from = excluded.fitted_from,
    fitted_to = excluded.fitted_to,
    fitted_days = excluded.fitted_days,
    history_hash = excluded.history_hash,
    model_id = excluded.model_id,
    model_version = excluded.model_version,
    computed_at = excluded.computed_at
where
    (stored.template, stored.method, stored.yhat, stored.yhat_lower, stored.yhat_upper, stored.actual,
     stored.evaluation_count, stored.p_value, stored.is_anomaly, stored.p_crossing, stored.threshold,
     stored.budget_weeks, stored.fitted_from, stored.fitted_to, stored.fitted_days, stored.history_hash,
     stored.model_id, stored.model_version)
    is distinct from
    (excluded.template, excluded.method, excluded.yhat, excluded.yhat_lower, excluded.yhat_upper, excluded.actual,
     excluded.evaluation_count, excluded.p_value, excluded.is_anomaly, excluded.p_crossing, excluded.threshold,
     excluded.budget_weeks, excluded.fitted_from, excluded.fitted_to, excluded.fitted_days, excluded.history_hash,
     excluded.model_id, excluded.model_version)
"""
# What was ahead when nobody came to judge it is no verdict.
_UNLESS_TOLD = " and stored.actual is null"


@dataclass(frozen=True)
class Rows:
    """Forecasts to write, an array a column, in the order of the table `fresh_forecasts`.

    Attributes:
        place: which of the subjects.
        day: days since 2000-01-01, as with fitted_from and fitted_to.
        method: which of the methods' names.
        actual: NaN where there is none, as with p_value, p_crossing and threshold.
        model_id: 16 bytes; of no meaning where model_version is 0: no model is registered yet.
    """

    place: Ints
    day: Ints
    method: Ints
    yhat: Floats
    yhat_lower: Floats
    yhat_upper: Floats
    actual: Floats
    evaluation_count: Floats
    p_value: Floats
    is_anomaly: Bools
    p_crossing: Floats
    threshold: Floats
    budget_weeks: Floats
    fitted_from: Ints
    fitted_to: Ints
    fitted_days: Ints
    history_hash: Hashes
    model_id: npt.NDArray[np.void]
    model_version: Ints

    def with_models(self, which: npt.NDArray[np.intp], model_ids: npt.NDArray[np.void], versions: Ints) -> "Rows":
        """With the models that made them, by their numbers; rows with a negative one stay as they are."""
        model_id, model_version = self.model_id.copy(), self.model_version.copy()
        found = which >= 0
        model_id[found], model_version[found] = model_ids[which[found]], versions[which[found]]
        return replace(self, model_id=model_id, model_version=model_version)


def one_writer(connection: Connection) -> None:
    """Until the transaction ends nobody else forecasts."""
    connection.execute(_ONE_WRITER)


def add_forecasts(
    connection: Connection, measure: Measure, subjects: Sequence[Subject], methods: Sequence[str], rows: Rows
) -> int:
    """Store verdicts on days that have none, with arguments as of `write_forecasts`; returns how many."""
    return _write(connection, _ADD + _WHAT_DIFFERS + _UNLESS_TOLD, measure, subjects, methods, rows)


def write_forecasts(
    connection: Connection, measure: Measure, subjects: Sequence[Subject], methods: Sequence[str], rows: Rows
) -> int:
    """Store forecasts in place of what is stored; returns how many are new or changed.

    Args:
        connection: its transaction is the caller's.
        measure: of all rows.
        subjects: of rows by their place.
        methods: names of methods, by number.
        rows: each place and day once.
    """
    return _write(connection, _ADD + _WHAT_DIFFERS, measure, subjects, methods, rows)


def _write(
    connection: Connection,
    statement: LiteralString,
    measure: Measure,
    subjects: Sequence[Subject],
    methods: Sequence[str],
    rows: Rows,
) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_FRESH)
        with cursor.copy(_COPY_SUBJECTS) as copy:
            copy.set_types(["int4", "text", "uuid", "text"])
            for place, subject in enumerate(subjects):
                copy.write_row((place, *subject))
        copy_columns(connection, _COPY_FORECASTS, [getattr(rows, field.name) for field in fields(rows)])
        cursor.execute("analyze fresh_forecasts, fresh_subjects")
        changed = cursor.execute(statement, {"measure": measure, "methods": list(methods)}).rowcount
        cursor.execute(_DROP_FRESH)
    return changed


def read_calibrations(connection: Connection, measure: Measure, today: date) -> dict[date, Calibration]:
    """The calibrations by which days have been judged that may be judged again, or that share a block with them."""
    since = date.fromordinal(block_of(today - timedelta(days=JUDGED_DAYS)) * BLOCK + 1)
    values = {"measure": measure, "layout": _CALIBRATION_LAYOUT, "since": since}
    rows = connection.execute(_CALIBRATIONS, values, binary=True)
    return {day: unpack(Calibration, content) for day, content in rows}


def write_calibrations(connection: Connection, measure: Measure, calibrations: Mapping[date, Calibration]) -> None:
    """Store those that aren't stored yet."""
    rows = [
        {"measure": measure, "date": day, "layout": _CALIBRATION_LAYOUT, "content": pack(calibration)}
        for day, calibration in calibrations.items()
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_WRITE_CALIBRATION, rows)


def read_lessons(connection: Connection, measure: Measure, block: int) -> dict[int, Lessons]:
    """A block's lessons, if parts of the fleet have been replayed by them."""
    values = {"measure": measure, "layout": _LESSONS_LAYOUT, "block": block}
    return {found: unpack(Lessons, content) for found, content in connection.execute(_LESSONS, values, binary=True)}


def write_lessons(connection: Connection, measure: Measure, block: int, lessons: Lessons) -> None:
    """Store a block's lessons, unless somebody has."""
    values = {"measure": measure, "block": block, "layout": _LESSONS_LAYOUT, "content": pack(lessons)}
    connection.execute(_WRITE_LESSONS, values)


def read_memory(connection: Connection, measure: Measure, panel: Panel, hashes: Hashes) -> Memory:
    """What is remembered of a panel's templates, and still holds: none of whose days have changed since.

    Args:
        connection: any.
        measure: of the panel.
        panel: its templates.
        hashes: (n, T) fingerprints of their histories up to each day.
    """
    n, days = hashes.shape
    block = block_of(panel.first_day + timedelta(days=days))
    memory = Memory.none(n, block)
    places = _places(panel.subjects)
    values = {"measure": measure, "layout": _memory_layout(memory), "block": block}
    found: list[int] = []
    states: list[bytes] = []
    for tenant_id, template_id, judged_to, history_hash, state in connection.execute(_MEMORY, values, binary=True):
        place, column = places.get((tenant_id, template_id)), (judged_to - panel.first_day).days
        if place is not None and 0 <= column < days and hashes[place, column] == history_hash:
            memory.days[place] = judged_to.toordinal()
            found.append(place)
            states.append(state)
    from_rows(_per_template(memory), found, states)
    return memory


def write_memory(connection: Connection, measure: Measure, panel: Panel, memory: Memory, hashes: Hashes) -> None:
    """Store what is remembered after a panel's last day; `hashes` (n) are of the days up to it."""
    judged_to = panel.first_day + timedelta(days=panel.values.shape[1] - 1)
    arrays = _per_template(memory)
    values = {"measure": measure, "layout": _memory_layout(memory), "block": memory.block, "judged_to": judged_to}
    contents = row_bytes(arrays, np.arange(len(panel.subjects)))
    with connection.cursor() as cursor:
        cursor.execute(_FRESH_MEMORY)
        with cursor.copy(_COPY_MEMORY) as copy:
            copy.set_types(["text", "uuid", "int8", "bytea"])
            for subject, history_hash, content in zip(panel.subjects, hashes.tolist(), contents, strict=True):
                copy.write_row((subject.tenant_id, subject.template_id, history_hash, content))
        cursor.execute(_WRITE_MEMORY, values)
        cursor.execute("drop table fresh_memory")


def _memory_layout(memory: Memory) -> str:
    return f"{RECIPE}:{row_layout(_per_template(memory))}"


def _per_template(memory: Memory) -> dict[str, npt.NDArray[Any]]:
    return {field.name: getattr(memory, field.name) for field in fields(memory) if field.name not in ("block", "days")}


def _places(subjects: Sequence[Subject]) -> Mapping[tuple[Any, ...], int]:
    return {subject[:2]: place for place, subject in enumerate(subjects)}
