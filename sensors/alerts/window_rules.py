"""Which rules hold a mean against a bound, for the subjects of batches, and for which of them a window is kept.

Belongs here: rows of `alerting.windows`, made and forgotten. Does not belong here: moving them (`window_rows`).
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from sensors.alerts.observations import METRICS
from sensors.alerts.states import Subject
from sensors.alerts.windows import Rule
from storage.database import Connection

_ARE_ANY = """
select exists (select 1 from alerting.thresholds where enabled and num_nonnulls(window_n, window_span) > 0)
"""
_FORGET_ALL = "delete from alerting.windows"
_FORGET = "delete from alerting.windows where window_id = any(%(window_ids)s)"

# Also rules without a window, where one is kept: it misses what lands now.
_RULES = """
with extractors as materialized (
    select distinct
        evaluations.tenant_id,
        evaluations.template,
        evaluations.extractor_vendor,
        evaluations.extractor_model
    from raw.evaluations
    where evaluations.batch_id = any(%(batch_ids)s::uuid[])
)

select
    extractors.tenant_id,
    extractors.template,
    extractors.extractor_vendor,
    extractors.extractor_model,
    rule.event_type,
    rule.comparison,
    rule.value,
    rule.bound,
    alerting.widest(rule.comparison, rule.value, rule.bound) as threshold,
    rule.clear_gap,
    rule.severity,
    rule.for_n,
    rule.clear_n,
    rule.max_age,
    rule.window_n,
    coalesce(rule.window_span, rule.max_age) as span,
    coalesce(rule.min_n, rule.window_n) as min_n,
    rule.basis,
    rule.enabled and num_nonnulls(rule.window_n, rule.window_span) > 0 as is_held,
    exists (
        select 1 from alerting.alerts
        where
            alerts.tenant_id = extractors.tenant_id
            and alerts.event_type = rule.event_type
            and alerts.template = extractors.template
            and alerts.extractor_vendor = extractors.extractor_vendor
            and alerts.extractor_model = extractors.extractor_model
            and alerts.status in ('pending', 'firing')
    ) as has_open_alert,
    windows.window_id,
    windows.window_n as kept_n,
    windows.span as kept_span,
    windows.evaluation_count,
    windows.total,
    windows.newest_at,
    windows.newest_id
from extractors
cross join lateral alerting.rules_for(
    extractors.tenant_id, extractors.template, extractors.extractor_vendor, extractors.extractor_model
) as rule
left join alerting.windows
    on
        extractors.tenant_id = windows.tenant_id
        and rule.event_type = windows.event_type
        and extractors.template = windows.template
        and extractors.extractor_vendor = windows.extractor_vendor
        and extractors.extractor_model = windows.extractor_model
where
    rule.event_type in ('drift_high', 'reliability_low', 'decision_review')
    and (windows.window_id is not null or (rule.enabled and num_nonnulls(rule.window_n, rule.window_span) > 0))
"""

_MAKE = """
insert into alerting.windows
    (tenant_id, event_type, template, extractor_vendor, extractor_model, window_n, span)
values
    (%(tenant_id)s, %(event_type)s, %(template)s, %(extractor_vendor)s, %(extractor_model)s, %(window_n)s, %(span)s)
returning window_id
"""


def are_any(connection: Connection) -> bool:
    """Whether any rule has a window; if not, none is kept."""
    if connection.execute(_ARE_ANY).fetchone() == (True,):
        return True
    connection.execute(_FORGET_ALL)
    return False


def held_rules(connection: Connection, batch_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """A row each rule with a window, of the extractors in the batches: the rule, `has_open_alert`, and its window.

    Where `is_new`, its window has been made just now, and is empty.

    Args:
        connection: in the transaction that moves the position.
        batch_ids: what is read.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_RULES, {"batch_ids": list(batch_ids)}).fetchall()
    stale = [row for row in found if row["window_id"] is not None and not _is_kept(row)]
    forget(connection, [row["window_id"] for row in stale])
    held = [row for row in found if row["is_held"]]
    for row in held:
        row["is_new"] = row["window_id"] is None or not _is_kept(row)
        if row["is_new"]:
            made = connection.execute(_MAKE, row).fetchone()
            assert made is not None  # noqa: S101 - an insert returns its row or raises
            row["window_id"] = made[0]
    return held


def _is_kept(row: Mapping[str, Any]) -> bool:
    return row["is_held"] and (row["window_n"], row["span"]) == (row["kept_n"], row["kept_span"])


def forget(connection: Connection, window_ids: Sequence[int]) -> None:
    """Keep these windows no longer."""
    connection.execute(_FORGET, {"window_ids": list(window_ids)})


def rule_of(row: Mapping[str, Any]) -> Rule:
    """A row of `held_rules` as a rule."""
    names = (
        "threshold",
        "clear_gap",
        "comparison",
        "severity",
        "for_n",
        "clear_n",
        "max_age",
        "span",
        "min_n",
        "basis",
    )
    set_by_people = ("value", "bound", "window_n", "span", "min_n")
    return Rule(
        subject=Subject(**{name: row.get(name, METRICS[row["event_type"]]) for name in Subject._fields}),
        limit=row["window_n"],
        text="|".join(("window", *(str(row[name]) for name in set_by_people))),
        **{name: row[name] for name in names},
    )
