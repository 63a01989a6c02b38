"""What making the whole warehouse anew costs, against one plain GROUP BY over the same rows.

The GROUP BY has the grain of the fact that all marts are made from, and its sums; the refresh makes every model, with
exact sums, histograms, feedback and features.
"""

from statistics import median

from benchmarks.rows import Row, spread
from benchmarks.warehouse_history import History, history, is_full

_SIZE = 1_000_000
_FULL_SIZE = 20_000_000

_GROUP_BY = """
create temporary table plain as
select
    (created_at at time zone 'UTC')::date as date, tenant_id, template_id, extractor_vendor, extractor_model, decision,
    count(*), sum(drift_score) as drift_sum, sum(drift_score * drift_score) as drift_sum_sq,
    sum(reliability_score) as reliability_sum, sum(reliability_score * reliability_score) as reliability_sum_sq
from raw.evaluations
group by 1, 2, 3, 4, 5, 6
"""


def run(repeats: int = 1) -> list[Row]:
    """Measure `repeats` times; medians are taken over them."""
    rows = _FULL_SIZE if is_full() else _SIZE
    with history(rows) as found:
        plain = [found.cost(lambda: _group(found)) for _ in range(repeats + 1)][1:]
        anew = [found.build("--full-refresh") for _ in range(repeats)]
    cpu, plain_cpu = [cost.cpu for cost in anew], [cost.cpu for cost in plain]
    return [
        Row(
            f"CPU of a full refresh of {rows:,} rows / of one plain GROUP BY",
            median(cpu) / median(plain_cpu),
            "small",
            f"full refresh {spread(cpu)}, GROUP BY {spread(plain_cpu)}; "
            f"time {spread([cost.wall for cost in anew])} and {spread([cost.wall for cost in plain])}",
        )
    ]


def _group(found: History) -> None:
    with found.database.connect() as connection:
        connection.execute(_GROUP_BY)
        connection.rollback()
