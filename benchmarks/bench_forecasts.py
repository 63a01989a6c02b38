"""What a night of forecasts costs, from daily scores in PostgreSQL to what is stored, against the naive loop.

CPU seconds of the asset's process, its children and the server. The naive loop is `Prophet().fit(…)` and `predict(…)`
a template, measured on a few templates' drift and scaled; it neither reads nor writes, judges or calibrates, and has
nothing to do with reliability. Three nights each: the first of a new installation, the next with one more day, and that
one again with nothing new. Days of the past are not judged in hindsight, which has a share of each day of its own.
"""

import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import psutil

from assets.warehouse.build import run_dbt
from benchmarks.forecast_series import LAST_DAY, MIXTURE, Fleet, make_fleet
from benchmarks.fresh_databases import TENANT, fresh_database, fresh_server
from benchmarks.plain_prophet import naive
from benchmarks.rows import Row
from benchmarks.server_cpu import postmaster_of, server_cpu, wait_for_back_ends
from benchmarks.warehouse_history import is_full
from storage.clock import Clock
from storage.database import Connection, Database
from storage.settings import Settings

_HORIZON = 7
_SAMPLE = 5
_MEMORY_MB = 2048
_NIGHTS = ("first night", "next night, one day more", "again, nothing new")
_TEMPLATES = "copy access.templates (template_id, tenant_id, template, first_batch_id, first_seen_at) from stdin"
_DAYS = """
create unlogged table days (
    date date, template_id uuid, template text, drift double precision, reliability double precision,
    count double precision
)
"""
_COPY = "copy days (date, template_id, template, drift, reliability, count) from stdin with (format csv)"
# What dbt makes of landed evaluations: all months, or the one that the newest day lies in.
_FORGET = "delete from intermediate.int_score_months where month >= %(month)s"
_MONTHS = """
insert into intermediate.int_score_months
    (tenant_id, template_id, template, month, days, drift_scores, drift_counts, reliability_scores, reliability_counts)
select
    %(tenant)s, template_id, template, date_trunc('month', date)::date,
    string_agg(int4send(date - date '2000-01-01'), '' order by date),
    string_agg(float8send(drift), '' order by date),
    string_agg(float8send(count), '' order by date),
    string_agg(float8send(coalesce(reliability, 'NaN')), '' order by date),
    string_agg(float8send(count), '' order by date)
from days
where date >= %(month)s
group by template_id, template, date_trunc('month', date)
"""
_ROWS_A_TIME = 500_000


@dataclass(frozen=True)
class Night:
    """What one materialization took.

    Attributes:
        cpu: CPU seconds of its process, its children and the server.
        server: those of the server.
        wall: seconds that passed.
        memory: the process's largest, in MB.
    """

    cpu: float
    server: float
    wall: float
    memory: float


def run() -> list[Row]:
    """500 templates with 90 and 365 days; with `--full` 10,000 with 90, 365 and 730."""
    templates, lengths = (10_000, (90, 365, 730)) if is_full() else (500, (90, 365))
    rows = []
    with TemporaryDirectory(prefix="tidemark-bench-") as home, fresh_server(Path(home) / "postgres") as server:
        postmaster = postmaster_of(Path(home) / "postgres")
        for days in lengths:
            url = fresh_database(server)
            database = Database(platform=url, dagster=server.with_database("dagster"))
            loop = _loop_seconds(days)
            rows += _answers(_nights(database, postmaster, templates, days), loop, templates, days)
    return rows


def _answers(nights: list[Night], loop: float, templates: int, days: int) -> list[Row]:
    size = f"{templates:,} templates x {days} days"
    rows = [
        Row(
            f"templates a CPU second, {name} / naive loop, {days} days",
            loop * templates / night.cpu,
            ">= 400",
            f"{size}: {templates / night.cpu:,.0f}/s, {night.cpu:.1f} CPU s of which the server {night.server:.1f}, "
            f"{night.wall:.1f} s by the clock; loop {loop * 1000:.0f} CPU ms a template, measured on {_SAMPLE}",
        )
        for name, night in zip(_NIGHTS, nights, strict=True)
    ]
    memory = max(night.memory for night in nights)
    return [
        *rows,
        Row(f"memory of a night / {_MEMORY_MB} MB, {days} days", memory / _MEMORY_MB, "<= 1", f"{memory:.0f} MB"),
    ]


# The nights -----------------------------------------------------------------------------------------------------------


def _nights(database: Database, postmaster: psutil.Process, templates: int, days: int) -> list[Night]:
    """Build the marts, fill all days but the newest, materialize; add the newest, materialize; and once more."""
    drift, reliability = (make_fleet(MIXTURE, templates, days, seed, np.full(templates, days)) for seed in (1, 2))
    with database.connect(autocommit=True) as connection:
        _register(connection, drift)
        run_dbt(["run"], database)
        connection.execute(_DAYS)
        _fill(connection, drift, reliability, slice(0, days - 1))
        connection.execute("vacuum analyze intermediate.int_score_months")
    nights = [_night(database, postmaster, LAST_DAY)]
    with database.connect(autocommit=True) as connection:
        _fill(connection, drift, reliability, slice(days - 1, days))
    return [*nights, *(_night(database, postmaster, LAST_DAY + timedelta(days=1)) for _ in range(2))]


def _night(database: Database, postmaster: psutil.Process, today: date) -> Night:
    """In a process of its own: memory is a process's largest ever."""
    with database.connect(autocommit=True) as connection:
        connection.execute("checkpoint")
    name = database.platform.database
    wait_for_back_ends(postmaster, name)
    before = server_cpu(postmaster)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        client, wall, memory = pool.submit(_materialize, database, today).result()
    wait_for_back_ends(postmaster, name)
    server = server_cpu(postmaster) - before
    return Night(client + server, server, wall, memory)


def _materialize(database: Database, today: date) -> tuple[float, float, float]:
    """CPU and clock seconds of the assets, imports and Dagster's own work included, and the process's memory in MB."""
    started, wall = _cpu(), perf_counter()
    import dagster as dg

    from assets.forecasts.assets import definitions

    now = datetime.combine(today, time(9), tzinfo=UTC)
    resources = {"database": database, "clock": Clock(lambda: now), "settings": Settings(forecast_hindsight=0)}
    result = dg.materialize(definitions(), resources=resources)
    assert result.success
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return _cpu() - started, perf_counter() - wall, memory


def _cpu() -> float:
    """Of this process and the children it has waited for."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _loop_seconds(days: int) -> float:
    """CPU of the naive loop a template, its children's included; the median of a few."""
    panel = make_fleet(MIXTURE, _SAMPLE + 1, days, 3, np.full(_SAMPLE + 1, days)).panel
    seconds = []
    for history in panel.values:
        started = _cpu()
        naive(history, panel.first_day, _HORIZON)
        seconds.append(_cpu() - started)
    # The first of a process imports Prophet.
    return median(seconds[1:])


# Daily scores --------------------------------------------------------------------------------------------------------


def _register(connection: Connection, fleet: Fleet) -> None:
    seen = datetime.combine(fleet.panel.first_day, time(), tzinfo=UTC)
    with connection.cursor() as cursor, cursor.copy(_TEMPLATES) as copy:
        for subject in fleet.panel.subjects:
            copy.write_row((subject.template_id, TENANT, subject.template, subject.template_id, seen))


def _fill(connection: Connection, drift: Fleet, reliability: Fleet, columns: slice) -> None:
    """The scored days of these columns, by COPY of what pyarrow has written."""
    import pyarrow as pa
    from pyarrow import csv

    subjects = drift.panel.subjects
    ids = np.array([str(subject.template_id) for subject in subjects])
    names = np.array([subject.template for subject in subjects])
    days = np.datetime64(drift.panel.first_day, "D") + np.arange(drift.panel.values.shape[1])[columns]
    per_time = max(_ROWS_A_TIME // len(days), 1)
    for first in range(0, len(subjects), per_time):
        rows = slice(first, first + per_time)
        score, counts = drift.panel.values[rows, columns], drift.panel.counts[rows, columns].astype(np.int64)
        scored = np.isfinite(score)
        row, day = np.nonzero(scored)
        table = pa.table(
            {
                "date": pa.array(days[day]),
                "template_id": pa.array(ids[rows][row]),
                "template": names[rows][row],
                "drift": score[scored],
                "reliability": pa.array(1 - reliability.panel.values[rows, columns][scored], from_pandas=True),
                "count": counts[scored],
            }
        )
        text = BytesIO()
        csv.write_csv(table, text, csv.WriteOptions(include_header=False, quoting_style="none"))
        with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.write(text.getvalue())
    values = {"month": days[0].astype("datetime64[M]").astype("datetime64[D]").item(), "tenant": TENANT}
    connection.execute(_FORGET, values)
    connection.execute(_MONTHS, values)
