"""The registry of forecasters in people's hands, and a run that dies while it writes."""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from forecast_marts import NOW, TENANT, fill, materialize, prepare
from typer.testing import CliRunner

from assets.evaluations.contract import template_id
from assets.forecasts.rollbacks import IS_BETTER
from orchestration.cli import app
from storage.database import Connection, Database
from storage.settings import Settings

pytestmark = pytest.mark.begins(after=prepare)

PROJECT_ROOT = Path(__file__).parents[2]
KNOWN = """
insert into access.templates (template_id, tenant_id, template, first_batch_id, first_seen_at)
select template_id, tenant_id, template, uuidv7(), now()
from marts.drift_history group by template_id, tenant_id, template
"""
# Dies when all is written and nothing is committed.
DOOMED = """
import os, signal, sys
from datetime import date
from assets.forecasts import stored
from assets.forecasts.forecasting import judge_work, prepare, store
from assets.forecasts.reading import read_histories
from storage.database import connect
from storage.postgres_url import PostgresUrl

today = date.fromisoformat(sys.argv[2])
with connect(PostgresUrl.parse(sys.argv[1])) as connection:
    stored.one_writer(connection)
    work = prepare(connection, read_histories(connection, today), "drift", today)
    outcome = store(connection, work, judge_work(work))
    assert outcome.rows_changed > 500
    os.kill(os.getpid(), signal.SIGKILL)
"""
WRITTEN = """
select (select count(*) from ml.drift_forecasts), (select count(*) from ml.forecast_models),
    (select count(*) from ml.forecast_calibrations), (select count(*) from ml.forecast_memory)
"""
SAID = """
select template, measure, date, yhat, yhat_lower, yhat_upper, p_value, p_crossing, model_id, model_version
from ml.drift_forecasts
order by template, measure, date
"""


CURVE = """
select date, model_version, method, yhat from ml.drift_forecasts
where template = 'climbing' and measure = 'drift' order by date desc limit 7
"""


def days(connection: Connection, number: int, since: datetime = NOW) -> None:
    """Ordinary days that follow, of three templates."""
    values = [0.12 + 0.01 * (day % 3) for day in range(number)]
    for template in ("calm", "calm-1", "climbing"):
        fill(connection, TENANT, template, values, last=since.date() + timedelta(days=number - 1))
    connection.commit()


def forecast(*arguments: str) -> tuple[int, str]:
    """The command's exit status and what it printed."""
    result = CliRunner().invoke(app, ["forecast", *arguments, "--tenant", TENANT])
    return result.exit_code, " ".join((result.output + str(result.exception or "")).split())


def test_a_rollback_pins_an_earlier_version_keeps_both_and_leaves_its_trace(
    database: Database, connection: Connection, settings: Settings
) -> None:
    connection.execute(KNOWN)
    materialize(database)
    subject = ("--template", "calm")
    assert "calm" in forecast("list")[1]
    for measure in ("drift", "reliability"):
        assert f"of calm, {measure}" in forecast("show", *subject, "--measure", measure)[1]
    for wrong in (("--to", "9", "--reason", "none such"), ("--to", "3", "--reason", " ")):
        assert forecast("rollback", *subject, *wrong)[0] != 0
    code, told = forecast("rollback", *subject, "--to", "1", "--reason", "it was best")
    assert code != 0
    assert "its fit was not kept" in told, "of weeks before the first refresh only the newest was fitted to be kept"
    kept = {row["version"]: row["is_fit_kept"] for row in json.loads(forecast("show", *subject, "--json")[1])}
    assert kept == {3: True, 2: False, 1: False}
    assert forecast("unpin", *subject)[0] != 0
    for shows in ("show", "history"):
        code, told = forecast(shows, "--template", "short")
        assert (code, "first week of scored days" in told) == (0, True)
        code, told = forecast(shows, "--template", "shrot")
        assert (code != 0, "nothing has landed under this name" in told) == (True, True)
    told = forecast("rollback", "--template", "short", "--method", "ewma", "--reason", "too young")[1]
    assert "drift of 'short' has no version yet" in told
    days(connection, 7)
    materialize(database, NOW + timedelta(days=7))
    code, told = forecast("rollback", *subject, "--to", "3", "--reason", "the newest follows a broken scanner")
    assert code == 0
    assert "from the next refresh on" in told
    versions = "select model_id, version, method from ml.forecast_models where template_id = %s order by model_id"
    calm = (template_id(TENANT, "calm"),)
    before = connection.execute(versions, calm).fetchall()
    champion = """
        select model.version, champion.is_pinned from ml.forecast_champions as champion
        inner join ml.forecast_models as model using (model_id)
        inner join access.templates on champion.template_id = templates.template_id
        where templates.template = 'calm' and champion.measure = 'drift'
    """
    assert connection.execute(champion).fetchall() == [(3, True)]
    listed = {row["measure"]: row for row in json.loads(forecast("list", "--json")[1]) if row["template"] == "calm"}
    assert (listed["drift"]["version"], listed["drift"]["serves"]) == (3, "from the next refresh on")
    assert (listed["reliability"]["version"], listed["reliability"]["serves"]) == (4, "now")
    materialize(database, NOW + timedelta(days=7))
    listed = {row["measure"]: row for row in json.loads(forecast("list", "--json")[1]) if row["template"] == "calm"}
    assert (listed["drift"]["version"], listed["drift"]["serves"]) == (3, "now")
    assert listed["drift"]["backtest_days"] > 60
    assert connection.execute(champion).fetchall() == [(3, True)], "a refresh leaves what is pinned"
    assert connection.execute(versions, calm).fetchall() == before
    assert forecast("unpin", *subject)[0] == 0
    materialize(database, NOW + timedelta(days=7))
    assert connection.execute(champion).fetchall() == [(4, False)]
    assert connection.execute(
        """
        select action, subject, coalesce(detail ->> 'to', detail ->> 'version') from access.audit_log
        where action like 'forecast.%' order by at
        """
    ).fetchall() == [("forecast.rollback", "calm", "3"), ("forecast.unpin", "calm", "3")]
    code, told = forecast("history", *subject)
    assert code == 0
    assert told.index("unpinned") < told.index("broken scanner") < told.index("the first forecast")


def test_the_fit_of_a_version_that_is_pinned_goes_on_from_what_the_registry_keeps(
    database: Database, connection: Connection, settings: Settings
) -> None:
    connection.execute(KNOWN)
    materialize(database)
    # Version 3 is on a trend; of the weeks after it a fit would know better.
    climbing = ("--template", "climbing", "--tenant", TENANT)
    made_of = json.loads(forecast("show", "--template", "climbing", "--version", "3")[1])["parameters"]["prophet"]
    days(connection, 21)
    materialize(database, NOW + timedelta(days=21))
    free = connection.execute(CURVE).fetchall()
    assert forecast("rollback", *climbing[:2], "--to", "3", "--reason", "the trend is what we want")[0] == 0
    connection.execute("set session_replication_role = replica; truncate ml.forecast_memory, ml.forecast_calibrations")
    connection.commit()
    materialize(database, NOW + timedelta(days=21))
    pinned = connection.execute(CURVE).fetchall()
    assert [row[1:3] for row in pinned] == [(3, "prophet")] * 7
    assert all(row[1] > 3 for row in free)
    # A share of the curve stands in the forecast; what the recursion says is the same for both.
    assert all(above[3] > below[3] + 0.001 for above, below in zip(pinned, free, strict=True))
    assert made_of["k"] + sum(made_of["delta"]) > 0
    days(connection, 7, NOW + timedelta(days=21))
    materialize(database, NOW + timedelta(days=28))
    assert [row[1:3] for row in connection.execute(CURVE)] == [(3, "prophet")] * 7
    champion = json.loads(forecast("list", "--json")[1])
    assert [row["version"] for row in champion if row["template"] == "climbing" and row["measure"] == "drift"] == [3]
    assert connection.execute(
        "select max(version) from ml.forecast_models where template_id = %s and measure = 'drift'",
        (template_id(TENANT, "climbing"),),
    ).fetchall() == [(6,)], "nothing is fitted in the place of what is pinned"


@pytest.mark.parametrize("method", ["ewma", "seasonal_naive", "zscore"])
def test_a_method_that_is_pinned_serves_from_the_next_refresh_on_and_what_was_judged_stands(
    database: Database, connection: Connection, settings: Settings, method: str
) -> None:
    connection.execute(KNOWN)
    materialize(database)
    ahead = """
        select method, yhat from ml.drift_forecasts
        where template = 'calm' and measure = 'drift' and actual is null order by date
    """
    judged = "select * from ml.drift_forecasts where actual is not null order by forecast_id"
    before, stands = connection.execute(ahead).fetchall(), connection.execute(judged).fetchall()
    assert {name for name, _ in before} == {"prophet"}
    assert forecast("rollback", "--template", "calm", "--method", method, "--reason", "no weeks")[0] == 0
    materialize(database)
    pinned = connection.execute(ahead).fetchall()
    assert {name for name, _ in pinned} == {method}
    assert pinned != before
    assert connection.execute(judged).fetchall() == stands
    assert f'"method": "{method}"' in forecast("list", "--json")[1]
    listed = [row for row in json.loads(forecast("list", "--json")[1]) if row["template"] == "calm"]
    said = f"pinned to {method}: no weeks"
    assert [row["because"] == said for row in listed] == [row["measure"] == "drift" for row in listed]
    assert "platform" not in {row["promoted_by"] for row in listed if row["because"] == said}
    history = json.loads(forecast("history", "--template", "calm", "--json")[1])
    assert [(row["method"], row["because"]) for row in history[:2]] == [(method, said), ("prophet", said)]
    assert forecast("unpin", "--template", "calm")[0] == 0
    materialize(database)
    assert connection.execute(ahead).fetchall() == before
    # As a back-test does.
    connection.execute("update ml.forecast_champions set chosen_method = %s, chosen_at = clock_timestamp()", (method,))
    connection.commit()
    listed = json.loads(forecast("list", "--json")[1])
    assert {(row["method"], row["serves"], row["because"], row["promoted_by"]) for row in listed} == {
        (method, "from the next refresh on", IS_BETTER, "platform")
    }


def test_a_tenants_budget_is_set_within_reason_and_audited(connection: Connection, settings: Settings) -> None:
    assert '"budget_weeks": 26.0' in forecast("budget", "--json")[1]
    assert forecast("budget", "--weeks", "0.5")[0] != 0
    assert '"budget_weeks": 4.0' in forecast("budget", "--weeks", "4", "--json")[1]
    assert connection.execute("select detail from access.audit_log where action = 'forecast.budget'").fetchall() == [
        ({"weeks": 4.0, "before": 26.0},)
    ]


def test_a_run_that_is_killed_while_it_writes_leaves_nothing_and_the_next_one_says_the_same(
    database: Database, connection: Connection
) -> None:
    doomed = subprocess.run(
        [sys.executable, "-c", DOOMED, database.platform.libpq(), NOW.date().isoformat()],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert doomed.returncode == -9, doomed.stderr
    assert connection.execute(WRITTEN).fetchall() == [(0, 0, 0, 0)]
    materialize(database)
    first = connection.execute(SAID).fetchall()
    assert len(first) > 500
    connection.execute("delete from ml.drift_forecasts")
    materialize(database)
    assert connection.execute(SAID).fetchall() == first
