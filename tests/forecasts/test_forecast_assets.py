"""Promises of the assets of forecasts on a real database."""

from datetime import timedelta

import pytest
from forecast_marts import CALM, NOW, TENANT, TODAY, YESTERDAY, fill, materialize, prepare
from psycopg.errors import InsufficientPrivilege

from storage.database import Connection, Database

pytestmark = pytest.mark.begins(after=prepare)

TABLES = {
    "drift_forecasts": "tenant_id, template, measure, date",
    "forecast_models": "model_id",
    "forecast_champions": "tenant_id, template_id, measure",
    "forecast_promotions": "promotion_id",
    "forecast_calibrations": "measure, date",
    "forecast_memory": "tenant_id, template_id, measure",
    "forecast_backtests": "tenant_id, template_id, measure, method",
    "drift_anomalies": "tenant_id, template_id, measure, date",
}
# What is another in each run is left out: names that a row gets by itself, and the clock.
CONTENT = (
    "select to_jsonb(stored) - '{forecast_id, promotion_id, promoted_at, computed_at}'::text[] from ml.%s as stored"
)


def stored(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    """Everything, as it is."""
    return {
        name: connection.execute(f"select * from ml.{name} order by {key}").fetchall()  # type: ignore[call-overload] # noqa: S608
        for name, key in TABLES.items()
    }


def content(connection: Connection) -> dict[str, list[str]]:
    """Everything but what says when it was written."""
    return {name: sorted(str(row[0]) for row in connection.execute(CONTENT % name)) for name in TABLES}  # type: ignore[call-overload]


def forget_all(connection: Connection) -> None:
    """Forecasts as if there had been none, of the history in `begun`."""
    tables = ", ".join(f"ml.{name}" for name in TABLES)
    connection.execute(f"set session_replication_role = replica; truncate {tables}, marts.drift_history")  # type: ignore[call-overload]
    connection.execute("insert into marts.drift_history select * from begun")


def test_templates_of_every_kind_are_judged_or_counted_and_every_check_passes(
    database: Database, connection: Connection
) -> None:
    result, numbers = materialize(database)
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks["fitted_before_the_day_judged"]
    assert checks["bounds_in_order"]
    # All but the silent and the unscored one; three days are too few for a verdict.
    assert numbers["drift_forecasts.drift_templates"] == CALM + 5
    assert numbers["drift_forecasts.drift_templates_inactive"] == 1
    days = connection.execute(
        "select template, count(*) filter (where actual is not null), count(p_crossing), max(date)"
        " from ml.drift_forecasts where measure = 'drift' and template in ('calm', 'young', 'short', 'silent')"
        " group by template order by template"
    ).fetchall()
    assert days == [("calm", 14, 7, TODAY + timedelta(days=6)), ("young", 14, 7, TODAY + timedelta(days=6))]
    found = connection.execute(
        "select measure, template, date from ml.drift_forecasts where is_anomaly and template !~ '^calm' order by 1, 2"
    ).fetchall()
    for measure in ("drift", "reliability"):
        assert (measure, "spiking", YESTERDAY - timedelta(days=1)) in found
        assert (measure, "young", YESTERDAY) in found
        assert any(row[:2] == (measure, "climbing") for row in found)
    assert (
        numbers["drift_anomalies.anomalies"]
        == connection.execute("select count(*) from ml.drift_forecasts where is_anomaly").fetchall()[0][0]
    )
    for asset in ("drift_anomalies.forecast_against_actual", "forecast_backtests.alarms_by_template"):
        assert "](data:image/png;base64,iVBORw0KGgo" in str(numbers[asset])
    surplus = [record.data for record in numbers["forecast_backtests.more_alarms_than_allowed_for"].records]  # type: ignore[attr-defined]
    assert ("spiking", "drift") in {(row["template"], row["measure"]) for row in surplus}
    assert all(row["alarms"] > row["allowed_for"] for row in surplus), "who kept the budget is not listed"


def test_reliability_is_judged_by_its_low_side_as_drift_is_by_its_high_one(
    database: Database, connection: Connection
) -> None:
    materialize(database)
    mirrored = connection.execute("""
        select count(*), count(*) filter (where drift.is_anomaly <> reliability.is_anomaly), max(greatest(
            abs(drift.yhat + reliability.yhat - 1), abs(drift.yhat_upper + reliability.yhat_lower - 1),
            abs(drift.p_value - reliability.p_value), abs(drift.actual + reliability.actual - 1)
        ))
        from ml.drift_forecasts as drift
        inner join ml.drift_forecasts as reliability using (template_id, date)
        where drift.measure = 'drift' and reliability.measure = 'reliability' and drift.actual is not null
    """).fetchall()
    [(days, other, apart)] = mirrored
    assert days > 400
    assert other == 0
    assert apart < 1e-9


def test_a_second_run_writes_nothing_and_made_anew_all_is_the_same_to_the_bit(
    database: Database, connection: Connection
) -> None:
    materialize(database)
    before, said = stored(connection), content(connection)
    _, numbers = materialize(database)
    assert stored(connection) == before
    assert numbers["drift_forecasts.drift_templates_judged_anew"] == numbers["drift_forecasts.drift_rows_changed"] == 0
    tables = ", ".join(f"ml.{name}" for name in TABLES)
    connection.execute(f"set session_replication_role = replica; truncate {tables}")  # type: ignore[call-overload]
    materialize(database)
    assert content(connection) == said


def test_memory_is_a_short_cut_alone_and_the_next_night_judges_what_was_ahead(
    database: Database, connection: Connection
) -> None:
    materialize(database)
    # What the fleet teaches of a day depends on who served before it.
    connection.execute("update ml.forecast_champions set chosen_method = null")
    for template, value in (("calm", 0.7), ("calm-1", 0.12), ("spiking", 0.11)):
        fill(connection, TENANT, template, [value], last=TODAY)
    ahead = connection.execute(
        "select yhat, yhat_upper, model_version from ml.drift_forecasts where template = 'calm' and date = %s"
        " and measure = 'drift'",
        (TODAY,),
    ).fetchone()
    _, numbers = materialize(database, NOW + timedelta(days=1))
    assert numbers["drift_forecasts.drift_days_judged"] == 3
    judged = connection.execute(
        "select yhat, yhat_upper, model_version, actual, is_anomaly from ml.drift_forecasts where template = 'calm'"
        " and date = %s and measure = 'drift'",
        (TODAY,),
    ).fetchone()
    assert judged == (*(ahead or ()), 0.7, True), "what was said ahead of a day is what it is judged by"
    resumed = content(connection)
    connection.execute("set session_replication_role = replica; truncate ml.forecast_memory, ml.forecast_calibrations")
    connection.execute(
        "delete from ml.drift_forecasts where date > %(day)s or (date = %(day)s and actual is not null)", {"day": TODAY}
    )

    materialize(database, NOW + timedelta(days=1))
    anew = content(connection)
    assert set(anew["forecast_calibrations"]) <= set(resumed["forecast_calibrations"])
    assert anew | {"forecast_calibrations": []} == resumed | {"forecast_calibrations": []}


def test_what_parts_of_the_fleet_replay_apart_is_the_same_to_the_bit_night_after_night(
    database: Database, connection: Connection
) -> None:
    said, nights = [], [NOW, NOW + timedelta(days=1), NOW + timedelta(days=4)]
    for parts in (1, 3):
        for night, now in enumerate(nights):
            _, numbers = materialize(database, now, parts=parts)
            if parts > 1:
                assert numbers["forecast_memory.parts"] == parts
                # Both measures of all that are active; of none twice in a night.
                assert numbers["forecast_memory.histories_replayed"] == 2 * (CALM + 5)
            said.append(content(connection))
            for template, value in (("calm", 0.13), ("calm-1", 0.5), ("spiking", 0.1)):
                fill(connection, TENANT, template, [value], last=TODAY + timedelta(days=night))
        tables = ", ".join(f"ml.{name}" for name in TABLES)
        connection.execute(f"set session_replication_role = replica; truncate {tables}")  # type: ignore[call-overload]
        connection.execute("delete from marts.drift_history where date >= %s", (TODAY,))
    assert said[3:] == said[:3]


def test_a_late_record_restates_the_verdicts_of_its_template_and_of_no_other(
    database: Database, connection: Connection
) -> None:
    materialize(database)
    before = {row[:6]: row for row in stored(connection)["drift_forecasts"]}
    late = YESTERDAY - timedelta(days=5)
    connection.execute(
        "update marts.drift_history set drift_score = drift_score + 0.05 where template = 'calm' and date = %s", (late,)
    )
    _, numbers = materialize(database)
    changed = [row for row in stored(connection)["drift_forecasts"] if before.get(row[:6]) != row]
    # What the day is expected to be stands; what came, and all that follows, is made anew.
    assert {row[3:6] for row in changed} == {("calm", "drift", late + timedelta(days=day)) for day in range(13)}
    assert numbers["drift_forecasts.drift_templates_judged_anew"] == 1
    assert numbers["drift_forecasts.reliability_templates_judged_anew"] == 0


def test_late_records_and_a_new_day_in_one_run_come_to_what_they_come_to_one_after_the_other(
    database: Database, connection: Connection
) -> None:
    said = []
    connection.execute("create table begun as select * from marts.drift_history")
    for apart in (True, False):
        materialize(database)
        connection.execute(
            "update marts.drift_history set drift_score = drift_score + 0.05 where template = 'calm' and date = %s",
            (YESTERDAY - timedelta(days=5),),
        )
        if apart:
            materialize(database)
        for template in ("calm", "calm-1", "spiking"):
            fill(connection, TENANT, template, [0.13], last=TODAY)
        materialize(database, NOW + timedelta(days=1))
        said.append(content(connection))
        forget_all(connection)
    assert said[0] == said[1]


def test_memory_stays_a_short_cut_where_a_run_was_skipped_and_the_past_has_changed(
    database: Database, connection: Connection
) -> None:
    said = []
    connection.execute("create table begun as select * from marts.drift_history")
    for remembers in (True, False):
        materialize(database)
        for day in range(3):
            for template in ("calm", "calm-1", "spiking"):
                fill(connection, TENANT, template, [0.13 + 0.01 * day], last=TODAY + timedelta(days=day))
        # What the fleet has taught of these four weeks would be another thing now.
        connection.execute(
            "update marts.drift_history set drift_score = drift_score + 0.2"
            " where template in ('calm-3', 'calm-5', 'calm-7') and date between '2026-03-18' and '2026-04-07'"
        )
        if not remembers:
            connection.execute("truncate ml.forecast_memory")
        materialize(database, NOW + timedelta(days=3))
        said.append(content(connection))
        forget_all(connection)
    assert said[0] == said[1]


def test_a_day_that_loses_its_score_has_no_verdict_until_it_gets_one_again(
    database: Database, connection: Connection
) -> None:
    materialize(database)
    said = content(connection)["drift_forecasts"]
    connection.execute("create table kept as select * from marts.drift_history where template in ('spiking', 'young')")
    connection.execute(
        "update marts.drift_history set drift_score = null where template = 'spiking' and drift_score > 0.5"
    )
    connection.execute("delete from marts.drift_history where template = 'young'")
    _, numbers = materialize(database)
    left = "select template, count(*) filter (where is_anomaly), count(actual), count(p_value) from ml.drift_forecasts"
    left += " where measure = 'drift' and date < %s and template in ('spiking', 'young') group by 1 order by 1"
    assert connection.execute(left, (TODAY,)).fetchall() == [("spiking", 0, 13, 13), ("young", 0, 0, 0)]
    assert connection.execute("select count(*) from ml.drift_anomalies where template = 'young'").fetchall() == [(0,)]
    _, numbers = materialize(database)
    assert numbers["drift_forecasts.drift_rows_changed"] == numbers["drift_forecasts.reliability_rows_changed"] == 0
    connection.execute("delete from marts.drift_history where template in ('spiking', 'young')")
    connection.execute("insert into marts.drift_history select * from kept")
    materialize(database)
    assert content(connection)["drift_forecasts"] == said
    for gone in (TODAY - timedelta(days=5), TODAY):
        connection.execute("delete from marts.drift_history where date < %s", (gone,))
        materialize(database)
        verdicts = "select count(*) from ml.drift_forecasts where actual is not null and date < %s"
        assert connection.execute(verdicts, (gone,)).fetchall() == [(0,)], "however short history has become"


def test_bounds_budgets_and_known_changes_bear_on_what_is_ahead_and_undo_no_verdict(
    database: Database, connection: Connection
) -> None:
    fill(connection, TENANT, "rising", [0.12] * 60 + [0.12 + 0.0044 * day for day in range(40)])
    connection.commit()
    materialize(database)
    judged = "select * from ml.drift_forecasts where actual is not null order by forecast_id"
    ahead = (
        "select sum(p_crossing), min(threshold), min(budget_weeks) from ml.drift_forecasts"
        " where template = 'rising' and actual is null and measure = 'drift'"
    )
    before, [(sure, bound, weeks)] = connection.execute(judged).fetchall(), connection.execute(ahead).fetchall()
    assert (bound, weeks) == (0.3, 26)
    connection.execute("""
        insert into alerting.thresholds (tenant_id, event_type, template, comparison, value)
        values ('acme', 'drift_high', 'rising', 'above', 0.9);
        insert into ml.forecast_settings (tenant_id, budget_weeks) values ('acme', 4);
        insert into intermediate.int_extractor_totals
        select 'acme', template_id, 'v', model, day from ml.drift_forecasts as known
        cross join (values ('m1', date '2026-01-01'), ('m2', date '2026-05-01')) as extractors (model, day)
        where known.template = 'calm' and known.date = '2026-05-07' and known.measure = 'drift'
    """)
    materialize(database)
    assert connection.execute(judged).fetchall() == before
    [(unsure, bound, weeks)] = connection.execute(ahead).fetchall()
    assert (bound, weeks) == (0.9, 4)
    assert unsure < 0.5 < sure


def test_every_forecast_names_a_registered_version_and_one_of_each_template_serves(
    database: Database, connection: Connection
) -> None:
    materialize(database)
    assert connection.execute("""
        select
            count(*) filter (where model.version is distinct from forecast.model_version),
            count(*) filter (where model.method <> forecast.method or model.fitted_to >= forecast.date),
            count(distinct (model.tenant_id, model.template_id, model.measure)),
            count(distinct model.model_id)
        from ml.drift_forecasts as forecast
        left join ml.forecast_models as model using (model_id)
        where forecast.model_id is not null
    """).fetchall()[0][:2] == (0, 0)
    serving = connection.execute("""
        select model.version, model.fitted_to, model.parameters is not null, promotion.because
        from ml.forecast_champions as champion
        inner join ml.forecast_models as model using (model_id)
        inner join ml.forecast_promotions as promotion using (model_id)
        inner join access.tenants on champion.tenant_id = tenants.tenant_id
        where champion.template_id in (select template_id from ml.drift_forecasts where template = 'calm')
    """).fetchall()
    monday = TODAY - timedelta(days=TODAY.weekday())
    assert serving == [(3, monday - timedelta(days=1), True, "the first forecast")] * 2


def test_every_method_is_tried_in_turn_one_serves_and_alarms_are_held_against_the_budget(
    database: Database, connection: Connection
) -> None:
    _, numbers = materialize(database)
    assert "forecast_backtests.drift_champions_chosen" in numbers
    tried = connection.execute("""
        select method, is_champion, days, pinball > 0, coverage between 0.8 and 1, days_judged, alarms_expected
        from ml.forecast_backtests where template = 'calm' and measure = 'drift' order by method
    """).fetchall()
    assert [row[0] for row in tried] == ["ewma", "prophet", "seasonal_naive", "zscore"]
    assert [row[1] for row in tried].count(True) == 1
    assert all(row[2] >= 80 and row[3] and row[4] for row in tried)
    assert sum(row[5] for row in tried) == 14
    assert sum(row[6] for row in tried) == pytest.approx(14 / (7 * 26))
    # Versions that were registered before that have its results, once.
    versions = "select count(*), count(pinball), min(backtest_days) > 0 from ml.forecast_models where template_id in"
    versions += " (select template_id from ml.forecast_backtests where template = 'calm')"
    [(registered, completed, were_tried)] = connection.execute(versions).fetchall()
    assert registered == completed > 4
    assert were_tried
    for change in ("pinball = 0", "coverage = 1", "method = 'ewma'", "parameters = null"):
        with pytest.raises(InsufficientPrivilege):
            connection.execute(f"update ml.forecast_models set {change}")  # type: ignore[call-overload] # noqa: S608
        connection.rollback()
    for days, is_tried in ((1, False), (28, True)):
        _, numbers = materialize(database, NOW + timedelta(days=days))
        assert ("forecast_backtests.drift_champions_chosen" in numbers) == is_tried


def test_an_empty_platform_has_no_forecasts_and_no_failure(database: Database, connection: Connection) -> None:
    connection.execute("truncate marts.drift_history")
    result, numbers = materialize(database)
    assert result.success
    assert numbers["drift_forecasts.drift_templates"] == 0
    assert "drift_anomalies.forecast_against_actual" not in numbers


def test_the_checks_fail_on_rows_that_break_their_promise(database: Database, connection: Connection) -> None:
    materialize(database)
    connection.execute("alter table ml.drift_forecasts drop constraint drift_forecasts_check")
    connection.execute("""
        insert into ml.drift_forecasts (tenant_id, template_id, template, measure, date, method, yhat, yhat_lower,
            yhat_upper, evaluation_count, is_anomaly, budget_weeks, fitted_from, fitted_to, fitted_days, history_hash)
        values ('acme', gen_random_uuid(), 'broken', 'drift', '2026-05-01', 'zscore', 0.5, 0.6, 0.4, 1, false, 26,
            '2026-04-01', '2026-05-01', 30, 0)
    """)
    result, _ = materialize(database, raise_on_error=False)
    verdicts = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert (verdicts["fitted_before_the_day_judged"], verdicts["bounds_in_order"]) == (False, False)
