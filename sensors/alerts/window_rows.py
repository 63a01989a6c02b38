"""Moving windows in PostgreSQL: read with what lands, moved, kept in the scan's transaction; what was told read anew.

A window that is kept has every evaluation of its subject until a batch, so what is landed or dropped elsewhere doesn't
change it, and reading a batch again adds nothing. Where a subject sends and the rule that it was kept for holds no
more, it is forgotten; where a rule holds and none is kept, it is made from `raw` as of the first batch that is read.
What one scan costs follows its new rows: those that they push out are found by an index, the others stay a sum.

Belongs here: rows of `alerting.window_values`, and the sums in `alerting.windows`. Does not belong here: what is in a
window, and the mean (`windows`); for whom there is one (`window_rules`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from sensors.alerts.states import Observation
from sensors.alerts.window_history import VALUE
from sensors.alerts.window_rules import are_any, forget, held_rules, rule_of
from sensors.alerts.windows import Batch, Late, Reading, Row, Rule, Window, move, observation
from storage.database import Connection

_NEW = f"""
select
    batches.position,
    windows.window_id,
    evaluations.created_at,
    evaluations.evaluation_id,
    {VALUE.format(event_type="windows.event_type")} as value,
    coalesce(evaluations.correlation_id, receipts.correlation_id) as correlation_id
from unnest(%(batch_ids)s::uuid[]) with ordinality as batches (batch_id, position)
inner join raw.evaluations on batches.batch_id = evaluations.batch_id
inner join raw.ingest_batches as receipts on batches.batch_id = receipts.batch_id
inner join alerting.windows
    on
        evaluations.tenant_id = windows.tenant_id
        and evaluations.template = windows.template
        and evaluations.extractor_vendor = windows.extractor_vendor
        and evaluations.extractor_model = windows.extractor_model
where
    windows.window_id = any(%(window_ids)s)
    and {VALUE.format(event_type="windows.event_type")} is not null
    and (receipts.xact_id, receipts.batch_id) > (windows.until_xact_id, windows.until_batch_id)
order by batches.position, evaluations.created_at, evaluations.evaluation_id
"""  # noqa: S608 - constants of this module

_XACTS = """
select batch_id, xact_id::text from raw.ingest_batches where batch_id = any(%(batch_ids)s::uuid[])
"""

# All that are made in one pass over the tenants' rows of that time, however many they are: a rule that is set for a
# thousand templates at once is read once. Of a template that begins in these batches nothing has landed before.
_LANDED_BEFORE = f"""
with made as materialized (
    select windows.*, templates.template_id, found.since
    from unnest(%(window_ids)s::bigint[], %(since)s::timestamptz[]) as found (window_id, since)
    inner join alerting.windows using (window_id)
    inner join access.templates
        on windows.tenant_id = templates.tenant_id and windows.template = templates.template
    where templates.first_batch_id <> all(%(batch_ids)s::uuid[])
),

landed as (
    select
        made.window_id,
        made.window_n,
        evaluations.created_at,
        evaluations.evaluation_id,
        {VALUE.format(event_type="made.event_type")} as value,
        row_number() over (
            partition by made.window_id order by evaluations.created_at desc, evaluations.evaluation_id desc
        ) as place
    from made
    inner join raw.evaluations
        on
            made.tenant_id = evaluations.tenant_id
            and made.template_id = evaluations.template_id
            and made.extractor_vendor = evaluations.extractor_vendor
            and made.extractor_model = evaluations.extractor_model
    inner join raw.ingest_batches as receipts on evaluations.batch_id = receipts.batch_id
    where
        evaluations.tenant_id = any(%(tenants)s)
        and evaluations.created_at >= %(since_least)s
        and evaluations.created_at >= made.since
        and receipts.xact_id < %(xact_id)s::text::xid8
        and {VALUE.format(event_type="made.event_type")} is not null
)

select window_id, created_at, evaluation_id, value
from landed
where place <= window_n or window_n is null
order by window_id, created_at, evaluation_id
"""  # noqa: S608 - constants of this module

_MOVED = ("window_ids", "counts", "totals", "newest_at", "newest_ids", "xact_ids", "batch_ids", "first_at", "first_ids")
_ENTERED = ("window_ids", "created_at", "evaluation_ids", "values")

# As many of the oldest as can be pushed out, and the one that is the oldest then.
_FRONT = """
select moved.window_id, oldest.created_at, oldest.evaluation_id, oldest.value
from
    unnest(%(window_ids)s::bigint[], %(counts)s::integer[], %(horizons)s::timestamptz[])
        as moved (window_id, new_rows, horizon)
cross join lateral (
    (
        select created_at, evaluation_id, value from alerting.window_values as kept
        where kept.window_id = moved.window_id and kept.created_at < moved.horizon
    )
    union
    (
        select created_at, evaluation_id, value from alerting.window_values as kept
        where kept.window_id = moved.window_id
        order by created_at, evaluation_id
        limit moved.new_rows + 1
    )
    union
    (
        select created_at, evaluation_id, value from alerting.window_values as kept
        where kept.window_id = moved.window_id and kept.created_at >= moved.horizon
        order by created_at, evaluation_id
        limit 1
    )
) as oldest
order by moved.window_id, oldest.created_at, oldest.evaluation_id
"""

_KEEP = """
update alerting.windows set
    evaluation_count = moved.evaluation_count,
    total = moved.total,
    newest_at = moved.newest_at,
    newest_id = moved.newest_id,
    until_xact_id = moved.xact_id::xid8,
    until_batch_id = moved.batch_id
from
    unnest(
        %(window_ids)s::bigint[], %(counts)s::integer[], %(totals)s::bigint[], %(newest_at)s::timestamptz[],
        %(newest_ids)s::uuid[], %(xact_ids)s::text[], %(batch_ids)s::uuid[]
    ) as moved (window_id, evaluation_count, total, newest_at, newest_id, xact_id, batch_id)
where windows.window_id = moved.window_id
"""

_PUSH_OUT = """
delete from alerting.window_values as kept
using unnest(%(window_ids)s::bigint[], %(first_at)s::timestamptz[], %(first_ids)s::uuid[]) as moved (window_id, at, id)
where kept.window_id = moved.window_id and (kept.created_at, kept.evaluation_id) < (moved.at, moved.id)
"""

_ENTER = """
insert into alerting.window_values (window_id, created_at, evaluation_id, tenant_id, value)
select entered.window_id, entered.created_at, entered.evaluation_id, windows.tenant_id, entered.value
from
    unnest(%(window_ids)s::bigint[], %(created_at)s::timestamptz[], %(evaluation_ids)s::uuid[], %(values)s::bigint[])
        as entered (window_id, created_at, evaluation_id, value)
inner join alerting.windows using (window_id)
"""


@dataclass
class _Followed:
    rule: Rule
    has_open_alert: bool
    window: Window
    moved_by: Batch | None = None
    is_broken: bool = False


def of_batches(connection: Connection, batch_ids: Sequence[UUID], now: datetime) -> Iterator[Observation | Late]:
    """The means that batches of evaluations move, in the order in which they are to be judged.

    Of a subject that breaks no rule in these batches and has no open alert, only what is late.

    Args:
        connection: in UTC, in the transaction that moves the position.
        batch_ids: in the order of their transactions.
        now: against which the rules' maximum age is taken, aware.
    """
    if not batch_ids or not are_any(connection):
        return
    xacts: dict[UUID, str] = dict(connection.execute(_XACTS, {"batch_ids": list(batch_ids)}).fetchall())
    batches = [(int(xacts[batch_id]), batch_id) for batch_id in batch_ids]
    held = held_rules(connection, batch_ids)
    names = {"batch_ids": list(batch_ids), "window_ids": [row["window_id"] for row in held]}
    new: list[tuple[Batch, int, Row]] = [
        (batches[position - 1], window_id, Row(*rest)) for position, window_id, *rest in connection.execute(_NEW, names)
    ]
    followed = _load(connection, held, new, batches, now)
    # Without an evaluation that has the metric there is nothing to keep, and the next one begins anew.
    forget(connection, [row["window_id"] for row in held if row["is_new"] and row["window_id"] not in followed])
    found = _move(followed, new, now)
    _keep(connection, followed)
    for window_id, item in found:
        one = followed[window_id]
        if isinstance(item, Late):
            yield item
        elif one.is_broken or one.has_open_alert:
            yield observation(one.rule, item)


def _load(
    connection: Connection,
    held: Sequence[Mapping[str, Any]],
    new: Sequence[tuple[Batch, int, Row]],
    batches: Sequence[Batch],
    now: datetime,
) -> dict[int, _Followed]:
    counts = Counter(window_id for _, window_id, _ in new)
    newest: dict[int, datetime] = {}
    for _, window_id, one in new:
        newest[window_id] = max(newest.get(window_id, one.created_at), one.created_at)
    moved = [row for row in held if counts[row["window_id"]]]
    fronts = _fronts(connection, [row for row in moved if not row["is_new"]], counts, newest)
    before = _landed_before(connection, [row for row in moved if row["is_new"]], batches, now)
    followed = {}
    for row in moved:
        window_id, rule = row["window_id"], rule_of(row)
        if row["is_new"]:
            window = Window(rule.limit, rule.span)
            for one in before.get(window_id, ()):
                window.add(one)
        else:
            key = (row["newest_at"], row["newest_id"])
            window = Window(rule.limit, rule.span, row["evaluation_count"], row["total"], key, fronts[window_id])
        followed[window_id] = _Followed(rule, row["has_open_alert"], window)
    return followed


def _fronts(
    connection: Connection, kept: Sequence[Mapping[str, Any]], counts: Mapping[int, int], newest: Mapping[int, datetime]
) -> dict[int, list[Row]]:
    ids = [row["window_id"] for row in kept]
    names = {
        "window_ids": ids,
        "counts": [counts[window_id] for window_id in ids],
        "horizons": [max(newest[row["window_id"]], row["newest_at"]) - row["span"] for row in kept],
    }
    fronts: dict[int, list[Row]] = {}
    for window_id, created_at, evaluation_id, value in connection.execute(_FRONT, names):
        fronts.setdefault(window_id, []).append(Row(created_at, evaluation_id, value, is_kept=True))
    return fronts


def _landed_before(
    connection: Connection, made: Sequence[Mapping[str, Any]], batches: Sequence[Batch], now: datetime
) -> dict[int, list[Row]]:
    if not made:
        return {}
    # Nothing older is in a window that is still judged.
    since = [now - row["max_age"] - row["span"] for row in made]
    names = {
        "window_ids": [row["window_id"] for row in made],
        "since": since,
        "since_least": min(since),
        "tenants": sorted({row["tenant_id"] for row in made}),
        "batch_ids": [batch_id for _, batch_id in batches],
        "xact_id": str(batches[0][0]),
    }
    found: dict[int, list[Row]] = {}
    for window_id, *rest in connection.execute(_LANDED_BEFORE, names):
        found.setdefault(window_id, []).append(Row(*rest))
    return found


def _move(
    followed: Mapping[int, _Followed], new: Sequence[tuple[Batch, int, Row]], now: datetime
) -> list[tuple[int, Late | Reading]]:
    found: list[tuple[int, Late | Reading]] = []
    for batch, landed_rows in groupby(new, key=lambda one: one[0]):
        rows: dict[int, list[Row]] = {}
        for _, window_id, row in landed_rows:
            rows.setdefault(window_id, []).append(row)
        moved: list[tuple[Row, int, Late | Reading]] = []
        for window_id, own in rows.items():
            one = followed[window_id]
            one.moved_by = batch
            items = move(one.rule, one.window, own, batch, now - one.rule.max_age)
            one.is_broken |= any(one.rule.is_broken(item.mean) for _, item in items if isinstance(item, Reading))
            moved += [(row, window_id, item) for row, item in items]
        moved.sort(key=lambda one: (one[0][:2], followed[one[1]].rule.subject))
        found += [(window_id, item) for _, window_id, item in moved]
    return found


def _keep(connection: Connection, followed: Mapping[int, _Followed]) -> None:
    columns: dict[str, list[object]] = {name: [] for name in _MOVED}
    entered: dict[str, list[object]] = {name: [] for name in _ENTERED}
    for window_id, one in followed.items():
        window, batch = one.window, one.moved_by
        assert window.newest is not None  # noqa: S101 - each was moved by a row
        assert batch is not None  # noqa: S101 - the same
        first = window.oldest[0]
        values = (window_id, window.count, window.total, *window.newest, str(batch[0]), batch[1], *first[:2])
        for name, value in zip(_MOVED, values, strict=True):
            columns[name].append(value)
        for row in window.oldest:
            if not row.is_kept:
                for name, value in zip(_ENTERED, (window_id, *row[:3]), strict=True):
                    entered[name].append(value)
    connection.execute(_KEEP, columns)
    connection.execute(_PUSH_OUT, columns)
    connection.execute(_ENTER, entered)
