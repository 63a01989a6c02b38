"""Promises of the asset `drift_forecasts` on a real database."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import numpy as np
import pytest

from assets.evaluations.contract import template_id
from assets.forecasts.assets import definitions
from storage.clock import Clock
from storage.database import Connection, Database

NOW = datetime(2026, 5, 7, 9, tzinfo=UTC)
YESTERDAY = NOW.date() - timedelta(days=1)
ALL_FORECASTS = "select * from ml.drift_forecasts order by tenant_id, template, date"
ALL_MODELS = "select * from ml.forecast_models order by model_id"


@pytest.fixture
def mart(connection: Connection, tenant: str) -> str:
    """The mart as dbt's contract has it, filled with templates of every kind; returns the tenant."""
    connection.execute("""
        create table marts.drift_history (
            drift_history_id text primary key, date date, tenant_id text, template_id uuid, template text,
            drift_score double precision, reliability_score double precision, evaluation_count bigint,
            drift_count bigint, drift_stddev double precision, drift_min double precision, drift_max double precision,
            reliability_stddev double precision
        )
    """)
    random = np.random.default_rng(3)
    calm = [float(value) for value in np.clip(random.normal(0.12, 0.02, 80), 0, 1)]
    fill(connection, tenant, "calm", calm)
    fill(connection, tenant, "spiking", [*calm[:-2], 0.6, 0.1])
    fill(connection, tenant, "young", [*calm[:14], 0.5])
    fill(connection, tenant, "short", calm[:4])
    fill(connection, tenant, "silent", calm, last=YESTERDAY - timedelta(days=90))
    fill(connection, tenant, "unscored", [None] * 40)
    return tenant


def fill(
    connection: Connection, tenant: str, template: str, values: Sequence[float | None], last: date = YESTERDAY
) -> None:
    for i, value in enumerate(values):
        day = last - timedelta(days=len(values) - 1 - i)
        connection.execute(
            "insert into marts.drift_history (drift_history_id, date, tenant_id, template_id, template, drift_score,"
            " evaluation_count, drift_count) values (%s, %s, %s, %s, %s, %s, 25, %s)",
            (f"{template}-{day}", day, tenant, template_id(tenant, template), template, value, 25 if value else 0),
        )


def materialize(database: Database, now: datetime = NOW) -> tuple[dg.ExecuteInProcessResult, dict[str, object]]:
    result = dg.materialize(definitions(), resources={"database": database, "clock": Clock(lambda: now)})
    [event] = result.asset_materializations_for_node("drift_forecasts")
    return result, {name: value.value for name, value in event.metadata.items()}


def test_templates_of_every_kind_are_judged_or_counted_and_every_check_passes(
    database: Database, connection: Connection, mart: str
) -> None:
    result, metadata = materialize(database)
    assert result.success
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True, True]
    expected = {
        "templates_judged": 3,
        "templates_too_short": 1,
        "templates_inactive": 1,
        "days_judged": 14 + 14 + 8,
        "days_judged_by_prophet": 28,
        "days_judged_by_zscore": 8,
        "days_forecast_ahead": 21,
        "prophet_fallbacks": 0,
        "first_date": "2026-04-23",
        "last_date": "2026-05-13",
    }
    assert {name: metadata[name] for name in expected} == expected
    anomalies = connection.execute("select template, date, method from ml.drift_forecasts where is_anomaly").fetchall()
    assert ("spiking", YESTERDAY - timedelta(days=1), "prophet") in anomalies
    assert ("young", YESTERDAY, "zscore") in anomalies
    assert metadata["anomalies"] == len(anomalies)


def test_the_metadata_shows_whom_to_look_at_as_a_table_and_a_picture(database: Database, mart: str) -> None:
    _, metadata = materialize(database)
    records = [record.data for record in metadata["most_in_trouble"].records]  # type: ignore[attr-defined]
    assert {record["template"] for record in records} == {"spiking", "young", "calm"}
    worst_first = [(-record["anomalies"], -record["worst_excess_in_half_widths"]) for record in records]
    assert worst_first == sorted(worst_first)
    picture = str(metadata["forecast_against_actual"])
    assert picture.startswith("![forecast against actual](data:image/png;base64,iVBORw0KGgo")
    assert len(picture) < 200_000


def test_a_second_run_changes_no_row_and_fits_nothing(database: Database, connection: Connection, mart: str) -> None:
    materialize(database)
    before = [connection.execute(query).fetchall() for query in (ALL_FORECASTS, ALL_MODELS)]
    _, metadata = materialize(database)
    assert [connection.execute(query).fetchall() for query in (ALL_FORECASTS, ALL_MODELS)] == before
    assert (metadata["fits"], metadata["rows_changed"]) == (0, 0)
    connection.execute("delete from ml.drift_forecasts")
    materialize(database)
    again = connection.execute(ALL_FORECASTS).fetchall()
    # Made anew, all is as it was but the surrogate key in front and computed_at at the end.
    assert [row[1:-1] for row in again] == [row[1:-1] for row in before[0]]


def test_a_late_record_restates_the_forecasts_it_bears_on_and_no_others(
    database: Database, connection: Connection, mart: str
) -> None:
    materialize(database)
    before = connection.execute(ALL_FORECASTS).fetchall()
    late = YESTERDAY - timedelta(days=8)  # Tuesday of the week before: bears on this week's fit and on days ahead
    connection.execute(
        "update marts.drift_history set drift_score = drift_score + 0.01 where template = 'calm' and date = %s", (late,)
    )
    materialize(database)
    after = connection.execute(ALL_FORECASTS).fetchall()
    changed = [row for row, old in zip(after, before, strict=True) if row != old]
    assert {(row[3], row[4]) for row in changed} == {
        ("calm", day) for day in [late, *(date(2026, 5, 4) + timedelta(days=i) for i in range(10))]
    }


def test_the_next_day_is_judged_and_what_was_ahead_gets_its_actual(
    database: Database, connection: Connection, mart: str
) -> None:
    materialize(database)
    today = NOW.date()
    fill(connection, mart, "calm", [0.7], last=today)
    ahead = "select actual, is_anomaly from ml.drift_forecasts where template = 'calm' and date = %s"
    assert connection.execute(ahead, (today,)).fetchone() == (None, False)
    materialize(database, NOW + timedelta(days=1))
    assert connection.execute(ahead, (today,)).fetchone() == (0.7, True)


def test_every_forecast_names_the_registered_model_that_made_it(
    database: Database, connection: Connection, mart: str
) -> None:
    materialize(database)
    assert connection.execute("""
        select count(*) from ml.drift_forecasts as forecast
        left join ml.forecast_models as model using (model_id, tenant_id, template_id, method)
        where model.fitted_to is distinct from forecast.fitted_to
            or model.fitted_days is distinct from forecast.fitted_days
    """).fetchone() == (0,)


def test_an_empty_platform_has_no_forecasts_and_no_failure(
    database: Database, connection: Connection, mart: str
) -> None:
    connection.execute("truncate marts.drift_history")
    result, metadata = materialize(database)
    assert result.success
    assert metadata["templates_judged"] == 0
    assert "forecast_against_actual" not in metadata


def test_the_checks_fail_on_rows_that_break_their_promise(
    database: Database, connection: Connection, mart: str
) -> None:
    materialize(database)
    connection.execute("alter table ml.drift_forecasts drop constraint drift_forecasts_check")
    connection.execute("""
        insert into ml.drift_forecasts (tenant_id, template_id, template, date, method, yhat, yhat_lower, yhat_upper,
            evaluation_count, is_anomaly, fitted_from, fitted_to, fitted_days)
        values ('acme', gen_random_uuid(), 'broken', '2026-05-01', 'zscore', 0.5, 0.6, 0.4, 1, false, '2026-04-01',
            '2026-05-01', 30)
    """)
    resources = {"database": database, "clock": Clock(lambda: NOW)}
    result = dg.materialize(definitions(), resources=resources, raise_on_error=False)
    verdicts = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert verdicts == {"fitted_before_the_day_judged": False, "bounds_in_order": False}
