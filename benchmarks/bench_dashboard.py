"""How long a reader waits for the dashboard's five queries, and what row-level security adds.

The same queries, in turns, by three readers: a login of a BI tool and the HTTP door's role, who see their tenant by
policy, and the owner, who says `where tenant_id = …`. Many tenants and templates, warm, nothing prepared.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from statistics import median, quantiles
from typing import Any, LiteralString

from psycopg import sql

from benchmarks.rows import Row
from benchmarks.warehouse_history import History, history, is_full
from storage.database import Connection, Database, connect

_SIZE = 1_000_000
# Twice what is asked for, because the other benchmarks have made it.
_FULL_SIZE = 20_000_000
_AIM_MS = 10
_TENANTS = 10
_TEMPLATES = 10
_READER = "bench_reader_{:02}"

# {mine} is the owner's condition on the tenant; readers need none.
_QUERIES: dict[str, LiteralString] = {
    "overview": "select * from marts.overview where {mine} limit 100",
    "templates": "select * from marts.template_performance where {mine} order by template limit 100",
    "drift-trends": """
        select * from marts.drift_trends where {mine} and template_id = %(template_id)s and date >= %(since)s
        order by date limit 100
    """,
    "extractors": """
        select * from marts.extractor_comparison where {mine} and template_id = %(template_id)s
        order by success_rank limit 100
    """,
    "alerts": "select * from marts.recent_alerts where {mine} order by started_at desc limit 100",
}
_EXPLICIT = sql.SQL("tenant_id = %(tenant_id)s")
_BY_POLICY = sql.SQL("true")
_ACT_FOR = "select set_config('tidemark.tenant_id', %(tenant_id)s, true)"

Times = dict[str, dict[str, list[float]]]


def run(rounds: int = 3) -> list[Row]:
    """Measure so many rounds over all tenants, templates and queries."""
    rows = _FULL_SIZE if is_full() else _SIZE
    times: Times = defaultdict(lambda: defaultdict(list))
    with history(rows) as found, found.database.connect(autocommit=True) as owner:
        for number in range(_TENANTS):
            with _reader(found.database, owner, number) as reader:
                _measure(found, owner, reader, f"tenant-{number:02}", rounds, times)
    return [
        _waiting("a BI login", rows, times["reader"]),
        _waiting("the HTTP door's role", rows, times["api"]),
        _security("a BI login", rows, times["reader"], times["owner"]),
        _security("the HTTP door's role", rows, times["api"], times["owner"]),
    ]


@contextmanager
def _reader(database: Database, owner: Connection, number: int) -> Iterator[Connection]:
    name = _READER.format(number)
    role = sql.Identifier(name)
    owner.execute(sql.SQL("drop role if exists {}").format(role))
    owner.execute(sql.SQL("create role {} login in role bi_reader").format(role))
    owner.execute("insert into access.reader_tenants values (%s, %s)", (name, f"tenant-{number:02}"))
    try:
        with connect(replace(database.platform, user=name), autocommit=True) as reader:
            yield reader
    finally:
        owner.execute("delete from access.reader_tenants where role_name = %s", (name,))
        owner.execute(sql.SQL("drop role {}").format(role))


def _measure(found: History, owner: Connection, reader: Connection, tenant: str, rounds: int, times: Times) -> None:
    templates = owner.execute(
        "select template_id from marts.dim_templates where tenant_id = %s order by template limit %s",
        (tenant, _TEMPLATES),
    ).fetchall()
    since = found.calendar.day(found.calendar.days - 1) - timedelta(days=29)
    owner.prepare_threshold = reader.prepare_threshold = None
    # The first round fills the caches of the connections and of the server.
    for number in range(rounds + 1):
        for (template_id,) in templates:
            values = {"tenant_id": tenant, "template_id": template_id, "since": since}
            for name, query in _QUERIES.items():
                taken = {
                    "owner": _time(owner, sql.SQL(query).format(mine=_EXPLICIT), values),
                    "reader": _time(reader, sql.SQL(query).format(mine=_BY_POLICY), values),
                    "api": _time_as_api(owner, sql.SQL(query).format(mine=_BY_POLICY), values),
                }
                for who, milliseconds in taken.items() if number else ():
                    times[who][name].append(milliseconds)


def _time(connection: Connection, query: sql.Composed, values: dict[str, Any]) -> float:
    started = time.perf_counter()
    found = connection.execute(query, values).fetchall()
    milliseconds = (time.perf_counter() - started) * 1000
    assert found, "a tenant without rows measures nothing"
    return milliseconds


def _time_as_api(connection: Connection, query: sql.Composed, values: dict[str, Any]) -> float:
    with connection.transaction():
        connection.execute("set local role api_reader")
        connection.execute(_ACT_FOR, values)
        return _time(connection, query, values)


def _waiting(who: str, rows: int, times: dict[str, list[float]]) -> Row:
    worst = max(_p95(taken) for taken in times.values())
    figures = (f"{name} {median(taken):.1f}/{_p95(taken):.1f}" for name, taken in times.items())
    return Row(
        f"slowest p95 of the dashboard's queries as {who} at {rows:,} rows / {_AIM_MS} ms",
        worst / _AIM_MS,
        "<= 1",
        f"p50/p95 in ms: {', '.join(figures)}",
    )


def _security(who: str, rows: int, guarded: dict[str, list[float]], explicit: dict[str, list[float]]) -> Row:
    ours, theirs = ({name: median(times[name]) for name in _QUERIES} for times in (guarded, explicit))
    return Row(
        f"time of all five as {who} / as owner with WHERE at {rows:,} rows",
        sum(ours.values()) / sum(theirs.values()),
        "<= 1.2",
        f"medians in ms: {', '.join(f'{name} {ours[name]:.2f}/{theirs[name]:.2f}' for name in _QUERIES)}",
    )


def _p95(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]
