"""Days that nobody has judged are judged in hindsight, as they would have been."""

from datetime import timedelta

import pytest
from forecast_marts import CALM, NOW, TENANT, TODAY, YESTERDAY, fill, materialize, prepare

from assets.evaluations.contract import template_id
from assets.forecasts import forecasting, hindsight, reading, rows
from assets.forecasts.judging import JUDGED_DAYS
from sensors.alerts.scan import scan
from storage.database import Connection, Database

pytestmark = pytest.mark.begins(after=prepare)
EVERYTHING = 10**6
# But for what no verdict rests on.
VERDICTS = """
select template, measure, date, method, yhat, yhat_lower, yhat_upper, p_value, is_anomaly, fitted_from, fitted_to
from ml.drift_forecasts where actual is not null and date < %s order by template, measure, date
"""


def counts(connection: Connection) -> dict[str, int]:
    return dict(
        connection.execute(
            "select template, count(*) from ml.drift_forecasts"
            " where actual is not null and measure = 'drift' group by template"
        ).fetchall()
    )


def test_every_scored_day_has_its_verdict_from_the_days_before_it_alone_and_alarms_keep_the_budget(
    database: Database, connection: Connection
) -> None:
    _, numbers = materialize(database, hindsight=EVERYTHING)
    assert numbers["drift_forecasts.drift_templates_awaiting_hindsight"] == 0
    assert numbers["drift_forecasts.drift_days_judged_in_hindsight"] == (CALM + 3) * (120 - 7 - 14)
    judged = counts(connection)
    assert {judged[name] for name in ("calm", "calm-0", "spiking", "climbing")} == {113}
    assert judged["young"] == 14
    days, alarms = connection.execute(
        "select count(*), count(*) filter (where is_anomaly) from ml.drift_forecasts"
        " where actual is not null and template like 'calm%' and measure = 'drift'"
    ).fetchone() or (0, 0)
    assert alarms <= 3 * days / (7 * 26)
    told, day = connection.execute(VERDICTS, (YESTERDAY - timedelta(days=30),)).fetchall(), TODAY - timedelta(days=30)
    connection.execute("truncate ml.drift_forecasts, ml.forecast_hindsight, ml.forecast_memory")
    connection.execute("set session_replication_role = replica; truncate ml.forecast_calibrations")
    connection.execute(
        "update marts.drift_history set drift_score = 0.7, reliability_score = 0.1 where date > %s", (day,)
    )
    materialize(database, hindsight=EVERYTHING)
    assert connection.execute(VERDICTS, (YESTERDAY - timedelta(days=30),)).fetchall() == told


def test_what_a_run_may_judge_is_bounded_nothing_told_changes_and_nobody_is_alarmed_of_the_past(
    database: Database, connection: Connection
) -> None:
    connection.execute(
        "update marts.drift_history set drift_score = 0.9 where template = 'calm' and date = '2026-03-02'"
    )
    _, numbers = materialize(database, hindsight=12 * 106)
    left = numbers["drift_forecasts.drift_templates_awaiting_hindsight"]
    assert 0 < int(str(left)) < CALM
    _, numbers = materialize(database, NOW + timedelta(hours=9), hindsight=12 * 106)
    assert numbers["drift_forecasts.drift_templates_awaiting_hindsight"] == left
    assert numbers["drift_forecasts.drift_days_judged_in_hindsight"] == 0
    now = NOW
    while left:
        before, now = set(connection.execute(VERDICTS, (TODAY,)).fetchall()), now + timedelta(days=1)
        _, numbers = materialize(database, now, hindsight=12 * 106)
        assert before < set(connection.execute(VERDICTS, (TODAY,)).fetchall())
        left = numbers["drift_forecasts.drift_templates_awaiting_hindsight"]
    [(found,)] = connection.execute(
        "select is_anomaly from ml.drift_forecasts"
        " where template = 'calm' and date = '2026-03-02' and measure = 'drift'"
    ).fetchall()
    assert found
    scan(connection, NOW)
    assert connection.execute("select count(*) from alerting.alerts where template = 'calm'").fetchone() == (0,)
    _, numbers = materialize(database, now, hindsight=12 * 106)
    assert numbers["drift_forecasts.drift_days_judged_in_hindsight"] == 0


def test_older_days_that_land_later_are_judged_then_and_what_stands_is_left_alone(
    database: Database, connection: Connection
) -> None:
    materialize(database, hindsight=EVERYTHING)
    stands = connection.execute(VERDICTS, (TODAY,)).fetchall()
    fill(connection, TENANT, "young", [0.1] * 40, last=YESTERDAY - timedelta(days=21))
    _, numbers = materialize(database, NOW + timedelta(days=1), hindsight=EVERYTHING)
    assert numbers["drift_forecasts.drift_days_judged_in_hindsight"] == 40
    assert counts(connection)["young"] == 40 - 7 + 21
    others = [row for row in stands if row[0] != "young"]
    assert [row for row in connection.execute(VERDICTS, (TODAY,)).fetchall() if row[0] != "young"] == others


def test_after_a_silence_of_the_platform_every_day_that_landed_since_has_its_verdict(
    database: Database, connection: Connection
) -> None:
    materialize(database, hindsight=EVERYTHING)
    before = counts(connection)["calm"]
    fill(connection, TENANT, "calm", [0.12, 0.13] * 20, last=YESTERDAY + timedelta(days=40))
    fill(connection, TENANT, "calm-1", [0.12, 0.6] * 2 + [0.12, 0.13] * 18, last=YESTERDAY + timedelta(days=40))
    told = connection.execute(VERDICTS, (TODAY,)).fetchall()
    materialize(database, NOW + timedelta(days=40), hindsight=EVERYTHING)
    assert counts(connection)["calm"] == before + 40
    assert connection.execute(VERDICTS, (TODAY,)).fetchall() == told
    spikes = """
        select date from ml.drift_forecasts
        where template = 'calm-1' and is_anomaly and measure = 'drift' and date >= %s order by date
    """
    assert connection.execute(spikes, (TODAY,)).fetchall() == [(TODAY + timedelta(days=day),) for day in (1, 3)]


def test_a_history_longer_than_is_read_is_looked_back_on_once(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read are three years, which take a minute to judge: here it is 90 days."""
    followed = timedelta(days=90 - JUDGED_DAYS)
    for module in (reading, hindsight):
        monkeypatch.setattr(module, "REACH", timedelta(days=90))
    for module in (forecasting, rows, hindsight):
        monkeypatch.setattr(module, "FOLLOWED", followed.days)
    materialize(database, hindsight=EVERYTHING)
    looked = connection.execute("select * from ml.forecast_hindsight order by 1, 2, 3").fetchall()
    night = NOW + timedelta(days=1)
    fill(connection, TENANT, "calm", [0.11], last=TODAY)
    materialize(database, night, hindsight=EVERYTHING)
    assert connection.execute("select * from ml.forecast_hindsight order by 1, 2, 3").fetchall() == looked
    late = TODAY - timedelta(days=30)
    connection.execute("delete from ml.drift_forecasts where template = 'calm' and date = %s", (late,))
    connection.execute(
        "update marts.drift_history set drift_score = 0.3 where template = 'calm' and date = %s", (late,)
    )
    _, numbers = materialize(database, night, hindsight=0)
    assert numbers["drift_forecasts.drift_templates_judged_anew"] == 1
    _, numbers = materialize(database, night, hindsight=EVERYTHING)
    assert numbers["drift_forecasts.drift_days_judged_in_hindsight"] == 1


def test_a_late_record_costs_the_days_without_a_verdict_and_whoever_waits_longest_is_next(
    database: Database, connection: Connection
) -> None:
    materialize(database, hindsight=EVERYTHING)
    looked = "select days, history_hash <> -1 from ml.forecast_hindsight where template_id = %s and measure = 'drift'"
    first = template_id("globex", "calm-0")
    assert connection.execute(looked, (first,)).fetchall() == [(99, True)]
    late = "update marts.drift_history set drift_score = 0.15 where template = 'calm-0' and date = '2026-03-20'"
    connection.execute(late)
    told = connection.execute(VERDICTS, (TODAY - timedelta(days=14),)).fetchall()
    _, numbers = materialize(database, hindsight=EVERYTHING)
    assert numbers["drift_forecasts.drift_days_judged_in_hindsight"] == 0
    assert connection.execute(VERDICTS, (TODAY - timedelta(days=14),)).fetchall() == told
    assert connection.execute(looked, (first,)).fetchall() == [(99, True)], "what was spent today is spent"
    connection.execute(late.replace("0.15", "0.16"))
    connection.execute("delete from ml.drift_forecasts where template = 'calm-0' and date = '2026-03-20'")
    fill(connection, TENANT, "zoo", [0.1, 0.12] * 20)
    day = NOW + timedelta(days=1)
    for judged, left in ((40 - 7 - 13, 1), (0, 1)):
        _, numbers = materialize(database, day, hindsight=1)
        assert numbers["drift_forecasts.drift_days_judged_in_hindsight"] == judged
        assert numbers["drift_forecasts.drift_templates_awaiting_hindsight"] == left
    _, numbers = materialize(database, day + timedelta(days=1), hindsight=1)
    assert numbers["drift_forecasts.drift_days_judged_in_hindsight"] == 1
