"""Windows over days: what a late day restates beyond itself."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mart_records import empty_marts

from assets.warehouse.build import run_dbt
from storage.database import Connection, Database

_FIRST_DAY = datetime(2026, 1, 1, 12, tzinfo=UTC)
_DAYS = range(0, 120, 3)
# By template: near and far from each other, also just so far that windows meet or do not.
_LATE_DAYS = {"first": (0,), "meeting": (10, 38, 67), "apart": (10, 39, 69, 100), "ends": (5, 36, 119)}
_WINDOWED = ["run", "--select", "+drift_trends", "+feature_drift"]
_WHOLE = "select mart::text from marts.{} as mart order by 1"


@pytest.mark.begins(after=empty_marts)
def test_late_days_near_and_far_from_each_other_leave_the_windows_as_if_they_were_made_anew(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any
) -> None:
    def record(template: str, day: int, score: float) -> dict[str, Any]:
        at = (_FIRST_DAY + timedelta(days=day)).isoformat()
        features = {"pages": 100 * score, "dpi": day % 7}
        return an_evaluation(template=template, created_at=at, drift_score=score, features=features)

    push(tenant, "evaluations", [record(name, day, (day % 11) / 20) for name in _LATE_DAYS for day in _DAYS])
    run_dbt(_WINDOWED, database)
    before = _content(connection)
    push(tenant, "evaluations", [record(name, day, 0.9) for name, days in _LATE_DAYS.items() for day in days])
    run_dbt(_WINDOWED, database)
    by_increments = _content(connection)
    run_dbt([*_WINDOWED, "--full-refresh"], database)
    assert _content(connection) == by_increments != before


def _content(connection: Connection) -> dict[str, list[str]]:
    return {
        mart: [row[0] for row in connection.execute(_WHOLE.format(mart))]  # type: ignore[arg-type]
        for mart in ("drift_trends", "feature_drift")
    }
